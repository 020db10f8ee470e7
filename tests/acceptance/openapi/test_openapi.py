"""What services say of themselves in ``/openapi.json``, held against them by schemathesis with all of its checks."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
TOKEN = "the operator's, in these tests"
SEED = 20260801
AGENTS = "^/api/v1/agent/"
LARGE = r"/(jobs|batch|pipelines|\{pipeline_id\})$"
"""Bodies for which schemathesis takes minutes to think of all that could be wrong: they get fewer, random ones."""
ALL_PHASES = ("--phases", "examples,coverage,fuzzing", "--max-examples", "8")
TOLD = ("--exclude-method", "GET")
PARTS = {
    "what the orchestrator is asked": ("orchestrator", *ALL_PHASES, "--include-method", "GET"),
    "what the orchestrator is told": ("orchestrator", *ALL_PHASES, *TOLD, "--exclude-path-regex", LARGE),
    "what the orchestrator is told at length": (
        *("orchestrator", "--phases", "fuzzing", "--max-examples", "5"),
        *(*TOLD, "--include-path-regex", LARGE),
    ),
    "the scheduler": ("scheduler", *ALL_PHASES),
    "the worker manager": ("worker-manager", *ALL_PHASES),
}
STATEFUL = ("--phases", "stateful", "--max-examples", "20")


@pytest.fixture(scope="module")
def platform(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """The services without what carries out what they are asked for: nobody knows what that will be."""
    folder = tmp_path_factory.mktemp("described")
    with fresh_database(servers) as url:
        with RunningPlatform(
            folder, url, servers.redis_url, names=("serve",), process_enabled="0", api_token=TOKEN
        ) as started:
            yield started


def hold_to_its_description(platform: RunningPlatform, service: str, token: str, *options: str) -> str:
    """Asks the service what its description allows and what it does not. Fails with what was found; the report."""
    address = platform.service_url(service)
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml"),
            *("run", f"{address}/openapi.json", "--no-color", "--generation-database", "none"),
            *("--seed", str(SEED), "--header", f"Authorization: Bearer {token}", *options),
        ],
        cwd=platform.folder,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert platform.processes["serve"].poll() is None
    return done.stdout


def assert_all_were_tested(report: str) -> None:
    selected, tested = re.search(r"Selected: (\d+)(?:.|\n)*?Tested: (\d+)", report).groups()
    assert tested == selected, report


@pytest.mark.parametrize("part", PARTS)
def test_a_service_does_what_its_description_says(platform: RunningPlatform, part: str) -> None:
    service, *selection = PARTS[part]

    assert_all_were_tested(hold_to_its_description(platform, service, TOKEN, *selection))


@pytest.mark.parametrize("service", ["orchestrator", "scheduler", "worker-manager"])
def test_what_one_answer_names_is_asked_for_next(platform: RunningPlatform, service: str) -> None:
    assert "Scenarios:" in hold_to_its_description(platform, service, TOKEN, *STATEFUL)


def test_the_agents_part_does_so_for_a_worker_with_a_session(platform: RunningPlatform) -> None:
    with platform.client() as client:
        worker = client.register_worker("rust")
    session = secrets.token_urlsafe(32)
    begun = httpx.post(
        f"{platform.service_url('worker-manager')}/api/v1/agent/register",
        json={
            "worker_id": worker.id,
            "protocol": 1,
            "agent_version": "1",
            "session_token": session,
            "instance": "one",
        },
        headers={"Authorization": f"Bearer {worker.token}"},
    )
    assert begun.status_code == 200

    report = hold_to_its_description(
        platform, "worker-manager", session, *ALL_PHASES, "--include-path-regex", AGENTS
    )

    assert_all_were_tested(report)
