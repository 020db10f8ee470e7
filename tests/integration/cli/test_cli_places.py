"""The commands that switch providers and end workers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from platform_stand_in import JOB_ID, Answer, StandIn, job, problem

Run = Callable[..., subprocess.CompletedProcess[str]]
PROVIDER = "/api/v1/providers/docker"
WORKER = f"/api/v1/workers/{JOB_ID}"


def provider(status: str, reason: str | None = None) -> dict[str, Any]:
    return {"id": "1", "name": "docker", "type": "docker", "status": status, "status_reason": reason}


def here(platform: StandIn) -> None:
    """The worker manager is at the same address."""
    services = dict.fromkeys(("orchestrator", "scheduler", "worker_manager"), platform.url)
    platform.on("GET", "/health", {"status": "ok", "service": "orchestrator", "services": services})


def test_a_provider_is_switched_off(platform: StandIn, hodei: Run) -> None:
    platform.on("POST", f"{PROVIDER}/disable", provider("disabled", "switched off by an operator"))

    done = hodei("provider", "disable", "docker")

    assert (done.returncode, done.stdout) == (0, "docker: DISABLED. switched off by an operator\n")


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (("--maintenance",), {"status": "maintenance"}),
        (("--reason", "new disks"), {"status": "disabled", "status_reason": "new disks"}),
    ],
)
def test_why_it_is_switched_off_is_said(
    platform: StandIn, hodei: Run, options: tuple[str, ...], change: dict[str, str]
) -> None:
    platform.on("PATCH", PROVIDER, provider(change["status"], "new disks"))

    done = hodei("provider", "disable", "docker", *options, "--format", "json")

    assert json.loads(done.stdout)["status"] == change["status"]
    assert platform.requests("PATCH", PROVIDER)[0].body == change


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [("active", "docker: ACTIVE.\n", 0), ("unhealthy", "docker: UNHEALTHY. Nothing listens.\n", 1)],
)
def test_a_provider_that_is_switched_on_and_not_well_is_a_failure(
    platform: StandIn, hodei: Run, status: str, said: str, code: int
) -> None:
    reason = None if status == "active" else "Nothing listens."
    platform.on("POST", f"{PROVIDER}/enable", provider(status, reason))

    done = hodei("provider", "enable", "docker")

    assert (done.returncode, done.stdout) == (code, said)


def test_what_the_server_refuses_is_said(platform: StandIn, hodei: Run) -> None:
    refusal = problem(409, "conflict", "Provider docker is switched off by the settings.")
    platform.on("POST", f"{PROVIDER}/enable", Answer(status=409, body=refusal))

    done = hodei("provider", "enable", "docker")

    assert (done.returncode, done.stdout) == (3, "")
    assert "switched off by the settings" in done.stderr


@pytest.mark.parametrize(("command", "state"), [("drain", "DRAINING"), ("stop", "TERMINATING")])
def test_a_worker_is_ended(platform: StandIn, hodei: Run, command: str, state: str) -> None:
    here(platform)
    platform.on("POST", f"{WORKER}/{command}", Answer(status=202, body={"id": JOB_ID, "state": state}))

    done = hodei("worker", command, JOB_ID)

    assert (done.returncode, done.stdout) == (0, f"{JOB_ID}: {state}.\n")


def test_labels_that_a_job_requires_are_sent(platform: StandIn, hodei: Run) -> None:
    platform.on("POST", "/api/v1/jobs", Answer(status=201, body=job()))

    assert (
        hodei("job", "run", "--command", "x", "--require", "zone=eu", "--require", "disk=ssd").returncode == 0
    )
    assert hodei("job", "run", "--command", "x", "--require", "zone").returncode == 2

    [asked] = platform.requests("POST", "/api/v1/jobs")
    assert asked.body["required_labels"] == {"zone": "eu", "disk": "ssd"}
