"""The job's id, searched for in the logs of all processes, finds the job's whole way and nothing of any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database
from support.waiting import until

NAMES = ("orchestrator", "scheduler", "worker-manager", "controller", "beat")


@pytest.fixture(scope="module")
def logged(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """Each process by itself, with its log as JSON."""
    with fresh_database(servers) as url:
        folder = tmp_path_factory.mktemp("logged")
        with RunningPlatform(folder, url, servers.redis_url, names=NAMES, log_format="json") as running:
            yield running


def lines(platform: RunningPlatform, about: str) -> list[dict[str, Any]]:
    """What ``grep`` finds for this in all logs, by time; every line that is there is JSON."""
    found = []
    for name in platform.processes:
        for line in platform.log_file(name).read_text().splitlines():
            said = json.loads(line)
            if about in line:
                found.append(said | {"process": name})
    return sorted(found, key=lambda said: str(said["timestamp"]))


def way(said: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Process and event of what happened to the job, requests left out."""
    return [
        (line["process"], f"{line['event']} {line['new_state']}" if "new_state" in line else line["event"])
        for line in said
        if line["event"] != "request"
    ]


def test_a_jobs_id_finds_its_whole_way_through_all_processes(logged: RunningPlatform) -> None:
    # given another job, which is none of its business
    other = logged.hodei("job", "run", "--provider", "process", "--command", "true", "--wait").stdout.strip()

    # when
    answer = httpx.post(
        f"{logged.url}/api/v1/jobs",
        json={"name": "followed", "provider": "process", "command": "echo hello"},
        headers={"X-Request-Id": "the-request-of-this-test"},
        timeout=30,
    )
    job_id = answer.json()["id"]
    httpx.get(f"{logged.url}/api/v1/jobs/{job_id}?wait=30", timeout=60)
    ended = "SELECT 1 FROM workers WHERE last_job_id = %s AND state = 'TERMINATED'"
    until(lambda: logged.sql(ended, job_id), within_s=60, what="the worker's end")

    def whole() -> list[dict[str, Any]]:
        said = lines(logged, job_id)
        return said if "WorkerTerminated" in {line["event"] for line in said} else []

    said = until(whole, within_s=20, what="the last line")

    # then each fact is there once, where it happened
    happened = way(said)
    assert [fact for fact in happened if fact[1] != "WorkerProvisioned"] == [
        ("orchestrator", "JobCreated"),
        ("controller", "WorkerCreated"),
        ("worker-manager", "WorkerRegistered"),
        ("controller", "JobAssigned"),
        ("worker-manager", "JobAccepted"),
        ("worker-manager", "JobStatusChanged RUNNING"),
        ("controller", "JobStatusChanged SUCCEEDED"),
        ("controller", "WorkerTerminated"),
    ]
    assert ("controller", "WorkerProvisioned") in happened
    # and every line about it says so in the same field; the request's id is another
    assert {line.get("correlation_id") for line in said} == {job_id}
    created = next(line for line in said if line["event"] == "JobCreated")
    assert created["request_id"] == "the-request-of-this-test"
    assert not [line for line in said if other in json.dumps(line)]
    # and it is no flood
    assert len(said) <= 12, [line["event"] for line in said]


def test_what_the_clock_does_to_a_job_is_found_too(logged: RunningPlatform) -> None:
    # given a job that nobody will take
    logged.hodei("provider", "disable", "process")
    try:
        wanted = {"name": "late", "provider": "process", "command": "true", "timeouts": {"queue_s": 1}}
        job_id = httpx.post(f"{logged.url}/api/v1/jobs", json=wanted, timeout=30).json()["id"]

        # when its time in the queue is over
        state = "SELECT state FROM jobs WHERE id = %s"
        until(lambda: logged.sql(state, job_id) == [("TIMEOUT",)], within_s=60, what="the time-out")
    finally:
        logged.hodei("provider", "enable", "process")

    # then
    def found() -> list[dict[str, Any]]:
        said = lines(logged, job_id)
        return said if len(way(said)) >= 2 else []

    said = until(found, within_s=20, what="the clock's line")
    assert way(said) == [("orchestrator", "JobCreated"), ("beat", "JobStatusChanged TIMEOUT")]
    assert said[-1]["correlation_id"] == job_id and said[-1]["error_code"] == "ERR_1014"
