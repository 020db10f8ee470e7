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
SEED, EXAMPLES, BUDGET_S = 20260801, 8, 25
AGENTS = "^/api/v1/agent/"
WAITING = r"(/pipelines/schema|/logs|/follow|/execute|/inbox|/workers|/\{job_id\}|/\{run_id\})$"
"""Answers that may be waited for, in real time, for longer than all the others take together; and one that is an id, too."""
LARGE = r"/(jobs|batch|pipelines|\{pipeline_id\})$"
"""Bodies for which schemathesis takes minutes to think of all that could be wrong."""
PARTS = {
    "what the orchestrator is asked": (
        "orchestrator",
        "--include-method",
        "GET",
        "--exclude-path-regex",
        WAITING,
    ),
    "what the orchestrator is told": (
        "orchestrator",
        "--exclude-method",
        "GET",
        "--exclude-path-regex",
        LARGE,
    ),
    "the scheduler": ("scheduler",),
    "the worker manager": ("worker-manager", "--exclude-path-regex", WAITING),
}


@pytest.fixture(scope="module")
def platform(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """The services without what carries out what they are asked for: nobody knows what that will be."""
    folder = tmp_path_factory.mktemp("described")
    with fresh_database(servers) as url:
        with RunningPlatform(
            folder, url, servers.redis_url, names=("serve",), process_enabled="0", api_token=TOKEN
        ) as started:
            yield started


def hold_to_its_description(platform: RunningPlatform, service: str, token: str, *options: str) -> None:
    """Asks the service what its description allows and what it does not. Fails with what was found."""
    address = platform.service_url(service)
    limits = ["--seed", str(SEED), "--max-examples", str(EXAMPLES), "--max-time", str(BUDGET_S)]
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml"),
            *("run", f"{address}/openapi.json", "--no-color", "--generation-database", "none", *limits),
            *("--header", f"Authorization: Bearer {token}", *options),
        ],
        cwd=platform.folder,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    selected, tested = (
        int(found) for found in re.search(r"Selected: (\d+)(?:.|\n)*?Tested: (\d+)", done.stdout).groups()
    )
    assert tested == selected, done.stdout
    assert platform.processes["serve"].poll() is None


@pytest.mark.parametrize("part", PARTS)
def test_a_service_does_what_its_description_says(platform: RunningPlatform, part: str) -> None:
    service, *selection = PARTS[part]

    hold_to_its_description(platform, service, TOKEN, *selection)


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

    hold_to_its_description(platform, "worker-manager", session, "--include-path-regex", AGENTS)
