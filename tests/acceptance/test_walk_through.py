"""The walk-through: the three ports with nothing but ``curl``, and each answer in the shape that people script against."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from support.platform import RunningPlatform
from support.waiting import until

from hodei.client.client import HodeiClient

NOBODY = str(uuid4())
PORTS = ("orchestrator", "scheduler", "worker-manager")


class Curl:
    """Somebody with ``curl`` and the three addresses."""

    def __init__(self, platform: RunningPlatform) -> None:
        self.addresses = {port: platform.service_url(port) for port in PORTS}

    def __call__(self, method: str, port: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the JSON of the answer."""
        command = [
            "curl",
            "-sS",
            "-X",
            method,
            f"{self.addresses[port]}{path}",
            "-w",
            "\n%{http_code} %{content_type}",
        ]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        text, _, last = done.stdout.rpartition("\n")
        status, _, kind = last.partition(" ")
        if status == "204":
            return 204, None
        assert kind.startswith("application/problem+json" if int(status) >= 400 else "application/json"), kind
        return int(status), json.loads(text)


@pytest.fixture
def curl(running: RunningPlatform) -> Curl:
    return Curl(running)


def holds(answer: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    """Checks what is given, an id, and that every time is one; returns the answer."""
    assert {name: answer[name] for name in wanted} == wanted
    assert str(UUID(answer["id"])) == answer["id"]
    for name, value in answer.items():
        if name.endswith("_at") and value is not None:
            assert datetime.fromisoformat(value).tzinfo is not None
    return answer


@pytest.fixture
def worker(curl: Curl, running: RunningPlatform) -> Iterator[dict[str, Any]]:
    """``POST /workers`` at the worker manager, and its end: it would take others' jobs."""
    status, answer = curl("POST", "worker-manager", "/api/v1/workers?wait=60", {"type": "rust"})
    assert status == 200
    yield holds(answer, type="rust", status="running")
    assert curl("DELETE", "worker-manager", f"/api/v1/workers/{answer['id']}")[0] == 202
    with HodeiClient(running.url) as client:
        until(lambda: client.worker(answer["id"]).state == "TERMINATED", within_s=30, what="the worker's end")


def test_health_on_the_three_ports(curl: Curl) -> None:
    for port in PORTS:
        status, answer = curl("GET", port, "/health")

        assert (status, answer["status"], answer["service"]) == (200, "ok", port)


def test_from_a_pipeline_to_a_log(curl: Curl, worker: dict[str, Any]) -> None:
    # a pipeline
    about = {"name": "walk-through", "description": "With curl"}
    status, pipeline = curl("POST", "orchestrator", "/api/v1/pipelines", about)
    assert status == 201
    holds(pipeline, **about, status="active")
    assert pipeline["created_at"] is not None
    assert curl("GET", "orchestrator", f"/api/v1/pipelines/{pipeline['id']}")[1]["name"] == "walk-through"
    listed = curl("GET", "orchestrator", "/api/v1/pipelines")[1]
    assert pipeline["id"] in [one["id"] for one in listed]

    # a job in it: without a command it is a definition, outside of the queue
    given = {"name": "hello", "pipeline_id": pipeline["id"], "provider": "process"}
    status, job = curl("POST", "orchestrator", "/api/v1/jobs", given)
    assert status == 201
    holds(job, **given, status="pending", status_code=0, held=True, attempts=0, worker_id=None, error=None)
    assert curl("GET", "orchestrator", f"/api/v1/jobs/{job['id']}")[1] == job

    # a schedule for it
    status, schedule = curl(
        "POST", "scheduler", "/api/v1/schedule", {"job_id": job["id"], "cron": "0 2 * * *"}
    )
    assert status == 201
    holds(schedule, job_id=job["id"], status="scheduled", cron="0 2 * * *", timezone="UTC")
    assert schedule["id"] in [one["id"] for one in curl("GET", "scheduler", "/api/v1/scheduled")[1]]

    # a worker that runs elsewhere
    status, registered = curl("POST", "scheduler", "/api/v1/workers", {"type": "rust"})
    assert status == 200
    holds(registered, type="rust", status="online")
    assert registered["registered_at"] is not None
    assert len(registered["token"]) >= 22, "shown this once: 128 bits at least"
    found = curl("GET", "scheduler", f"/api/v1/workers/{registered['id']}")[1]
    assert registered["token"] not in json.dumps(found)

    # a worker that is made here
    assert worker["started_at"] is not None
    assert curl("GET", "worker-manager", f"/api/v1/workers/{worker['id']}/status")[1]["status"] == "running"

    # the job, executed with a command
    command = "echo 'Hello from the walk-through!'; echo done >&2"
    status, begun = curl(
        "POST", "worker-manager", "/api/v1/execute?wait=30", {"job_id": job["id"], "command": command}
    )
    assert status == 200
    holds(begun, job_id=job["id"], command=command)
    assert begun["status"] in ("running", "completed") and begun["started_at"] is not None
    ended = curl("GET", "orchestrator", f"/api/v1/jobs/{job['id']}?wait=30")[1]
    holds(
        ended, status="succeeded", status_code=4, held=False, exit_code=0, attempts=1, worker_id=worker["id"]
    )
    assert ended["log"] == {"entries": 2, "bytes": 34, "complete": True}

    # its executions, and its log
    executions = curl("GET", "worker-manager", "/api/v1/executions")[1]
    assert begun["id"] in [one["id"] for one in executions]
    execution = curl("GET", "worker-manager", f"/api/v1/executions/{begun['id']}")[1]
    holds(execution, job_id=job["id"], status="completed", exit_code=0, attempt=1, worker_id=worker["id"])
    log = curl("GET", "worker-manager", f"/api/v1/executions/{begun['id']}/logs")[1]
    assert {name for entry in log for name in entry} == {"seq", "attempt", "stream", "at", "text"}
    assert sorted((entry["stream"], entry["text"]) for entry in log) == [
        ("stderr", "done"),
        ("stdout", "Hello from the walk-through!"),
    ]
    assert [entry["seq"] for entry in log] == [1, 2]

    # and nothing of it stays in others' way
    assert curl("DELETE", "scheduler", f"/api/v1/scheduled/{schedule['id']}")[0] == 204
    assert curl("DELETE", "worker-manager", f"/api/v1/workers/{registered['id']}")[0] == 202


@pytest.mark.parametrize(
    ("method", "port", "path", "body"),
    [
        ("GET", "orchestrator", f"/api/v1/pipelines/{NOBODY}", None),
        ("GET", "orchestrator", f"/api/v1/jobs/{NOBODY}", None),
        ("GET", "orchestrator", f"/api/v1/jobs/{NOBODY}/logs", None),
        ("POST", "orchestrator", f"/api/v1/jobs/{NOBODY}/cancel", None),
        ("POST", "orchestrator", "/api/v1/jobs", {"name": "x", "pipeline_id": NOBODY}),
        ("GET", "orchestrator", f"/api/v1/providers/{NOBODY}", None),
        ("POST", "scheduler", "/api/v1/schedule", {"job_id": NOBODY, "cron": "0 2 * * *"}),
        ("GET", "scheduler", f"/api/v1/scheduled/{NOBODY}", None),
        ("GET", "scheduler", f"/api/v1/workers/{NOBODY}", None),
        ("POST", "scheduler", f"/api/v1/workers/{NOBODY}/heartbeat", None),
        ("GET", "worker-manager", f"/api/v1/workers/{NOBODY}", None),
        ("GET", "worker-manager", f"/api/v1/workers/{NOBODY}/status", None),
        ("POST", "worker-manager", "/api/v1/execute", {"job_id": NOBODY, "command": "true"}),
        ("GET", "worker-manager", f"/api/v1/executions/{NOBODY}", None),
        ("GET", "worker-manager", f"/api/v1/executions/{NOBODY}/logs", None),
    ],
)  # fmt: skip
def test_an_unknown_id_is_404_with_a_sentence(
    curl: Curl, method: str, port: str, path: str, body: Any
) -> None:
    status, problem = curl(method, port, path, body)

    assert (status, problem["status"], problem["code"]) == (404, 404, "not_found")
    assert problem["type"] and problem["title"] and len(problem["detail"]) > 20
