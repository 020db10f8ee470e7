from __future__ import annotations

from typing import Any

import pytest

from hodei.cli import job_report, output
from hodei.cli.job import Status
from hodei.cli.job_run import script_name
from hodei.client.shapes import Job
from hodei.domain.states import JobState


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("succeeded", 0, 0),
        ("failed", 7, 7),
        ("failed", 0, 1),
        ("failed", -9, 137),
        ("failed", 300, 1),
        ("cancelled", None, 1),
        ("timeout", None, 1),
    ],
)
def test_the_exit_code_is_the_jobs_own_and_1_when_it_has_none(
    status: str, code: int | None, expected: int
) -> None:
    assert job_report.exit_code(Job(id="1", status=status, exit_code=code)) == expected


CODES = {
    "PENDING": 0,
    "ASSIGNED": 1,
    "SCHEDULED": 2,
    "RUNNING": 3,
    "SUCCEEDED": 4,
    "FAILED": 5,
    "CANCELLED": 6,
    "TIMEOUT": 7,
}


@pytest.mark.parametrize(("state", "code"), CODES.items())
def test_the_status_line_says_the_state_and_its_code(state: str, code: int) -> None:
    expected = f"Status: {state} (Status Code: {code})"
    assert job_report.status_line(Job(id="1", status=state.lower())) == expected
    assert job_report.status_line(Job(id="1", status=state.lower(), status_code=code)) == expected


def test_the_statuses_that_can_be_asked_for_are_the_states_of_a_job() -> None:
    assert {status.value for status in Status} == {state.lower() for state in JobState}
    assert {status.upper() for status in job_report.STATUSES} == set(JobState)


def test_a_cause_is_shown_with_its_code_and_what_to_do() -> None:
    cause: dict[str, Any] = {
        "code": "ERR_1001",
        "severity": "USER",
        "message": "Command not found: mak",
        "actions": ["Check the spelling"],
    }
    job = Job.from_json({"id": "1", "status": "failed", "error": cause})
    shown = list(job_report.lines(job))
    assert shown[-2:] == ["Error: ERR_1001 (USER) Command not found: mak", "  - Check the spelling"]


@pytest.mark.parametrize(
    ("status", "schedule_id", "expected"),
    [
        ("pending", None, ["Held: it is a definition, outside the queue"]),
        ("pending", "2", ["Held: it waits for the runs before it, outside the queue"]),
        ("cancelled", "2", []),
        ("cancelled", None, []),
    ],
)
def test_what_is_held_says_why_till_it_ends(
    status: str, schedule_id: str | None, expected: list[str]
) -> None:
    job = Job.from_json({"id": "1", "status": status, "held": True, "schedule_id": schedule_id})

    assert [line for line in job_report.lines(job) if line.startswith("Held")] == expected


def test_what_steers_a_terminal_is_made_harmless() -> None:
    assert output.visible("a\x1b[2Jb\nc") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c"


def test_fields_of_tomorrow_are_ignored_and_kept_in_the_document() -> None:
    job = Job.from_json({"id": "1", "new": 1})
    assert job.document == {"id": "1", "new": 1}


@pytest.mark.parametrize(("file", "name"), [("ci/build.sh", "build"), ("-", None), (None, None)])
def test_a_script_without_a_name_is_called_like_its_file(file: str | None, name: str | None) -> None:
    assert script_name(file) == name
