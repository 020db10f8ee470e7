"""What the documentation tells people to type works, and what it says about events, tables and questions is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.documentation import Block, blocks
from support.platform import CHECKOUT, RunningPlatform
from support.waiting import until

EVENTS = (CHECKOUT / "docs/reference/events.md").read_text(encoding="utf-8")
TABLES = (CHECKOUT / "docs/reference/tables.md").read_text(encoding="utf-8")
ENDS = {
    "exits with 0": ["--command", "true"],
    "exits with another code": ["--command", "exit 3"],
    "cannot be started (no such program)": ["--command", "no-such-program", "--args", "x"],
    "runs longer than `--timeout`": ["--command", "sleep 60", "--timeout", "1"],
    "fails, and again with `--retries 1`": ["--command", "exit 3", "--retries", "1"],
}


def type_in(platform: RunningPlatform, block: Block) -> subprocess.CompletedProcess[str]:
    """Type the block into a shell of somebody who has activated the environment."""
    programs = Path(sys.executable).parent
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        env=platform.env | {"PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=platform.folder,
    )


@pytest.mark.parametrize("block", blocks("sh run"), ids=str)
def test_a_documented_command_works_as_typed(running: RunningPlatform, block: Block) -> None:
    # when
    done = type_in(running, block)

    # then
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.docker
@pytest.mark.parametrize("block", blocks("sh docker"), ids=str)
def test_a_documented_command_about_docker_works_as_typed(
    docker_running: RunningPlatform, block: Block
) -> None:
    # when
    done = type_in(docker_running, block)

    # then
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("end", ENDS)
def test_a_jobs_events_are_those_that_the_catalogue_lists(running: RunningPlatform, end: str) -> None:
    # given
    row = re.search(rf"^\| {re.escape(end)} \| (.*) \|$", EVENTS, re.MULTILINE)
    assert row is not None, f"events.md has no row for a job that {end}"

    # when
    done = running.hodei("job", "run", "--provider", "process", "--name", "end", "--wait", *ENDS[end])

    # then
    job_id = done.stdout.strip()
    happened = running.sql(
        "SELECT event_type, payload->>'new_state' FROM domain_events WHERE aggregate_id = %s ORDER BY occurred_at",
        job_id,
    )
    assert ", ".join(kind + (f" ({state})" if state else "") for kind, state in happened) == row[1]


def test_every_event_that_happened_is_in_the_catalogue(running: RunningPlatform) -> None:
    # given
    running.hodei("job", "run", "--provider", "process", "--command", "true", "--wait")
    until(
        lambda: running.sql("SELECT 1 FROM domain_events WHERE event_type = 'WorkerTerminated'"),
        what="a worker's end",
    )

    # when
    kinds = {kind for (kind,) in running.sql("SELECT DISTINCT event_type FROM domain_events")}

    # then
    assert kinds <= set(re.findall(r"^\| `(\w+)` \|", EVENTS, re.MULTILINE))


def test_the_tables_and_columns_are_there_as_documented(running: RunningPlatform) -> None:
    # given
    documented = {
        (table, column)
        for table, columns in re.findall(r"^\| `(\w+)` \| .* \| (`id`.*) \|$", TABLES, re.MULTILINE)
        for column in re.findall(r"`(\w+)`", columns)
    }

    # when
    there = set(
        running.sql(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        )
    )

    # then
    assert documented <= there
    assert {table for table, _ in documented} == {table for table, _ in there}


@pytest.mark.parametrize(
    "question", [q for block in blocks("sql") if "tables.md" in str(block) for q in block.text.split("\n\n")]
)
def test_a_documented_question_can_be_asked(running: RunningPlatform, question: str) -> None:
    # when
    answer = running.sql(question.replace(":'job'", "gen_random_uuid()"))

    # then
    assert isinstance(answer, list)
