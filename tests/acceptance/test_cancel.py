"""Cancelling jobs through the front door, on Docker and on processes: nothing of a cancelled job lives, whatever it does."""

from __future__ import annotations

import json
import statistics
from typing import Any
from uuid import UUID

import httpx
import pytest
from support import process_tree
from support.cancels import cancel_a_running_sleep, cancel_at_random, wrong_ends
from support.containers import containers
from support.platform import RunningPlatform
from support.waiting import until

PROVIDERS = ["process", pytest.param("docker", marks=pytest.mark.docker)]
ANYWHERE = pytest.mark.parametrize("provider", PROVIDERS)

RESISTING = {
    "grandchildren that ignore TERM": """#!/bin/bash
trap '' TERM
bash -c "trap '' TERM; (trap '' TERM; sleep 1000; sleep 1000) & sleep 1000; sleep 1000" &
echo up
while :; do sleep 1000; done
""",
    "closed pipes": """#!/bin/bash
trap '' TERM
echo up
exec >&- 2>&-
while :; do sleep 1000; done
""",
    "a daemon in a session of its own": """#!/usr/bin/env python3
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("up", flush=True)
        time.sleep(1000)
    os._exit(0)
os.wait()
time.sleep(1000)
""",
}


def call(platform: RunningPlatform, method: str, path: str, **more: Any) -> httpx.Response:
    return httpx.request(method, f"{platform.url}/api/v1/jobs{path}", timeout=30, trust_env=False, **more)


def start(platform: RunningPlatform, provider: str, command: str, **job: Any) -> str:
    """A job that has written ``up``."""
    kind = "script" if command.startswith("#!") else "command"
    body = {"name": "t", "provider": provider, kind: command, **job}
    job_id = call(platform, "POST", "", json=body).json()["id"]
    with platform.client() as client:
        until(lambda: client.log_text(job_id) == "up\n", within_s=60, what="the job's start")
    return job_id


def ended(platform: RunningPlatform, job_id: str) -> dict[str, Any]:
    with platform.client() as client:
        return dict(client.wait(job_id).document)


@ANYWHERE
def test_a_running_sleep_is_cancelled_and_gone_within_two_seconds_of_the_call(
    docker_running: RunningPlatform, provider: str
) -> None:
    took = [cancel_a_running_sleep(docker_running, provider) for _ in range(3)]

    assert statistics.median(one.cancelled_s for one in took) <= 2, took
    assert statistics.median(one.gone_s for one in took) <= 2, took


@ANYWHERE
@pytest.mark.parametrize("kind", RESISTING)
def test_a_job_that_resists_is_gone_with_all_of_its_tree(
    docker_running: RunningPlatform, provider: str, kind: str
) -> None:
    # given
    job_id = start(docker_running, provider, RESISTING[kind], grace_s=0.5)

    # when
    call(docker_running, "POST", f"/{job_id}/cancel")
    job = ended(docker_running, job_id)

    # then it was its agent that ended it, before CANCELLED was written
    assert (job["status"], job["error"]) == ("cancelled", None)
    assert process_tree.with_text(f"HODEI_JOB_ID={job_id}") == []
    [(said,)] = docker_running.sql(
        "SELECT output_data ->> 'confirmed_by' FROM saga_steps JOIN sagas ON sagas.id = saga_id "
        "WHERE correlation_id = %s AND step_name = 'UpdateJobState'",
        UUID(job_id),
    )
    assert said == "agent"
    until(lambda: f"hodei-worker-{job['worker_id']}" not in containers(docker_running), what="its removal")


@ANYWHERE
def test_what_a_job_writes_in_its_grace_is_in_its_log(docker_running: RunningPlatform, provider: str) -> None:
    command = "trap 'sleep 0.3; echo tidied up; exit 0' TERM; echo up; sleep 1000 & wait"
    job_id = start(docker_running, provider, command)

    call(docker_running, "POST", f"/{job_id}/cancel")
    job = ended(docker_running, job_id)

    assert (job["status"], job["log"]["complete"]) == ("cancelled", True)
    with docker_running.client() as client:
        assert client.log_text(job_id) == "up\ntidied up\n"


def test_a_second_cancel_in_the_grace_answers_the_same_and_changes_nothing(
    docker_running: RunningPlatform,
) -> None:
    # given a job that uses its grace
    command = "trap 'sleep 1; echo done' TERM; echo up; sleep 1000 & wait"
    job_id = start(docker_running, "process", command)

    # when
    first = call(docker_running, "POST", f"/{job_id}/cancel")
    second = call(docker_running, "POST", f"/{job_id}/cancel")

    # then
    assert first.status_code == second.status_code == 202
    assert first.json()["cancel_requested_at"] == second.json()["cancel_requested_at"] is not None
    assert ended(docker_running, job_id)["status"] == "cancelled"
    with docker_running.client() as client:
        assert client.log_text(job_id) == "up\ndone\n"
        told = [event.event_type for event in client.events(job_id)].count("JobCancelRequested")
    assert told == 1


@pytest.mark.docker
def test_cancels_at_random_moments_end_every_job_rightly(docker_running: RunningPlatform) -> None:
    cancelled = cancel_at_random(docker_running, {"docker": 30, "process": 30}, seed=20260801)

    assert wrong_ends(docker_running, cancelled) == []
    assert {one.state for one in cancelled} == {"cancelled", "succeeded"}
    met = {one.met for one in cancelled}
    assert len(met) >= 3, met  # they were at several points of their lives


def test_a_job_in_the_queue_is_cancelled_with_the_answer(docker_running: RunningPlatform) -> None:
    job = {"name": "t", "pipeline_id": None, "provider": "process", "command": "true"}
    docker_running.sql("UPDATE provider_configs SET max_workers = 0 WHERE name = 'process'")
    try:
        job_id = call(docker_running, "POST", "", json=job).json()["id"]
        answer = call(docker_running, "POST", f"/{job_id}/cancel")
    finally:
        docker_running.sql("UPDATE provider_configs SET max_workers = 32 WHERE name = 'process'")

    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")


def test_a_finished_job_is_not_cancelled_and_the_answer_says_its_state(
    docker_running: RunningPlatform,
) -> None:
    job_id = docker_running.hodei(
        "job", "run", "--provider", "process", "--command", "exit 3", "--wait"
    ).stdout.strip()

    answer = call(docker_running, "POST", f"/{job_id}/cancel")
    said = docker_running.hodei("job", "cancel", job_id)

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "FAILED" in answer.json()["detail"]
    assert said.returncode == 3 and "FAILED" in said.stderr


def test_the_command_line_cancels_tries_again_and_keeps_each_attempts_log(
    docker_running: RunningPlatform,
) -> None:
    # given
    job_id = start(docker_running, "process", "echo up; sleep $((HODEI_ATTEMPT == 1 ? 1000 : 0))")

    # when
    cancelled = docker_running.hodei("job", "cancel", job_id, "--wait", "--format", "json")
    again = docker_running.hodei("job", "retry", job_id, "--wait")

    # then
    assert cancelled.returncode == 0, cancelled.stderr
    assert json.loads(cancelled.stdout)["status"] == "cancelled"
    assert again.returncode == 0, again.stderr
    assert "Status: SUCCEEDED (Status Code: 4)" in again.stdout.splitlines()
    with docker_running.client() as client:
        assert [client.log_text(job_id, attempt=number) for number in (1, 2)] == ["up\n", "up\n"]
        assert [each.attempt for each in client.executions(job_id)] in ([1, 2], [2, 1])
    refused = docker_running.hodei("job", "retry", job_id)
    assert refused.returncode == 3 and "SUCCEEDED" in refused.stderr


def test_a_finished_job_is_deleted_and_one_that_runs_is_not(docker_running: RunningPlatform) -> None:
    job_id = start(docker_running, "process", "echo up; sleep 1000")

    early = call(docker_running, "DELETE", f"/{job_id}")
    call(docker_running, "POST", f"/{job_id}/cancel")
    ended(docker_running, job_id)
    late = call(docker_running, "DELETE", f"/{job_id}")

    assert early.status_code == 409 and "hodei job cancel" in early.json()["detail"]
    assert late.status_code == 204
    assert call(docker_running, "GET", f"/{job_id}").status_code == 404
