"""Jobs that are cancelled at random moments of their lives, and whether each came to a right end."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx

from support import process_tree
from support.containers import containers
from support.platform import RunningPlatform
from support.waiting import until

LONGEST_MOMENT_S = 2.5
"""Long enough for a job to be made, to run and to end, so that a cancel meets all of its states."""
RUNS_S = (0.0, 0.3, 1.0, 60.0)
LEFT_WITHIN_S = 60.0
ENDS_WITHIN_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """What became of one job. ``met``: the state that the cancel's answer showed, or the one that its refusal named."""

    job_id: str
    provider: str
    answer: int
    met: str
    state: str
    took_s: float


def cancel_at_random(
    platform: RunningPlatform, providers: dict[str, int], *, seed: int, at_once: int = 8
) -> list[Cancelled]:
    """Submit so many jobs for each provider, ``at_once`` at a time, and cancel each at a random moment of its life."""
    draw = random.Random(seed)
    names = [name for name, count in providers.items() for _ in range(count)]
    draw.shuffle(names)
    plans = [(name, draw.choice(RUNS_S), draw.uniform(0, LONGEST_MOMENT_S)) for name in names]
    with (
        httpx.Client(base_url=platform.url, timeout=60, trust_env=False) as http,
        ThreadPoolExecutor(at_once) as pool,
    ):
        return list(pool.map(lambda plan: _live(http, *plan), plans))


def _live(http: httpx.Client, provider: str, runs_s: float, moment_s: float) -> Cancelled:
    command = f"echo START; sleep {runs_s}; echo END"
    job = {"name": "c", "provider": provider, "command": command, "grace_s": 1.0}
    once = {"Idempotency-Key": str(uuid4())}
    job_id = _insist(http, "POST", "/api/v1/jobs", {201}, json=job, headers=once).json()["id"]
    threading.Event().wait(moment_s)
    began = time.monotonic()
    answer = _insist(http, "POST", f"/api/v1/jobs/{job_id}/cancel", {202, 409})
    met = answer.json()["status" if answer.status_code == 202 else "job_status"]
    ended = _wait(http, job_id)
    return Cancelled(
        job_id=job_id, provider=provider, answer=answer.status_code, met=met, state=ended["status"],
        took_s=time.monotonic() - began,
    )  # fmt: skip


def _insist(http: httpx.Client, method: str, path: str, wanted: set[int], **more: Any) -> httpx.Response:
    """One of the answers that are wanted; asked for again while the service is away (503), as a client does."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while True:
        answer = http.request(method, path, **more)
        if answer.status_code in wanted:
            return answer
        assert answer.status_code == 503 and time.monotonic() < deadline, f"{method} {path}: {answer.text}"
        threading.Event().wait(0.3)


def _wait(http: httpx.Client, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while True:
        job = _insist(http, "GET", f"/api/v1/jobs/{job_id}", {200}, params={"wait": 20}).json()
        if job["completed_at"] is not None:
            return job
        assert time.monotonic() < deadline, f"job {job_id} is {job['status']} still"


def wrong_ends(platform: RunningPlatform, cancelled: list[Cancelled]) -> list[str]:
    """A sentence for everything that is not as it should be; also what is left of the jobs at their providers."""
    wrong = [words for one in cancelled for words in _wrong(platform, one)]
    ids = [UUID(one.job_id) for one in cancelled]
    unfinished = "SELECT saga_type, state FROM sagas WHERE correlation_id = ANY(%s) AND completed_at IS NULL"
    live = "SELECT state FROM workers WHERE last_job_id = ANY(%s) AND state <> 'TERMINATED'"
    for what, left in (("saga", unfinished), ("worker", live)):
        try:
            until(lambda query=left: not platform.sql(query, ids), within_s=LEFT_WITHIN_S)
        except AssertionError:
            wrong += [f"{what} left: {row}" for row in platform.sql(left, ids)]
    wrong += [f"process left: {found}" for one in cancelled for found in process_tree.with_text(one.job_id)]
    if any(one.provider == "docker" for one in cancelled):
        wrong += [f"container left: {name}" for name in containers(platform)]
    return wrong


def _wrong(platform: RunningPlatform, one: Cancelled) -> list[str]:
    """What is not right about this job's rows, by its end."""
    job_id = UUID(one.job_id)
    events = [
        f"{kind} {state or ''}".strip()
        for kind, state in platform.sql(
            "SELECT event_type, payload ->> 'new_state' FROM domain_events WHERE aggregate_id = %s ORDER BY occurred_at",
            job_id,
        )
    ]
    ends = [event for event in events if event.removeprefix("JobStatusChanged ") in ENDS]
    live = platform.sql(
        "SELECT state FROM hodei.executions WHERE job_id = %s AND state IN ('pending', 'running')", job_id
    )
    with platform.client() as client:
        log = client.log_text(one.job_id)
    found = []
    if ends != [f"JobStatusChanged {one.state.upper()}"]:
        found.append(f"its ends are {ends} and its state is {one.state}")
    if live:
        found.append(f"an attempt of it is {live}")
    if one.state not in ("cancelled", "succeeded"):
        found.append("it neither was cancelled nor succeeded")
    if one.answer == 409 and one.state == "cancelled":
        found.append("its cancel was refused")
    if one.state == "succeeded" and not log.endswith("END\n"):
        found.append(f"it succeeded and its log is {log!r}")
    return [f"job {one.job_id} on {one.provider}, met {one.met}: {words}" for words in found]


ENDS = ("SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds from the call of a cancel until its end can be read, and until nothing of the worker is left."""

    cancelled_s: float
    gone_s: float


def cancel_a_running_sleep(platform: RunningPlatform, provider: str) -> Latency:
    """Start a ``sleep``, cancel it when it runs, and watch its end from outside."""
    with httpx.Client(base_url=platform.url, timeout=60, trust_env=False) as http:
        job = http.post(
            "/api/v1/jobs", json={"name": "s", "provider": provider, "command": "sleep 1000"}
        ).json()
        path = f"/api/v1/jobs/{job['id']}"
        worker_id = until(lambda: _if_running(http, path), within_s=60, what="the job's start")
        began = time.monotonic()
        answer = http.post(f"{path}/cancel")
        assert answer.status_code == 202 and answer.json()["cancel_requested_at"] is not None
        gone: list[float] = []

        def watch() -> None:
            until(lambda: _is_gone(platform, provider, job["id"], worker_id), within_s=60)
            gone.append(time.monotonic() - began)

        watched = threading.Thread(target=watch)
        watched.start()
        until(lambda: http.get(path).json()["status"] == "cancelled", within_s=60, what="CANCELLED")
        cancelled_s = time.monotonic() - began
        watched.join(60)
        assert gone, "something of the worker is left"
        return Latency(cancelled_s=cancelled_s, gone_s=gone[0])


def _if_running(http: httpx.Client, path: str) -> str | None:
    job = http.get(path).json()
    return job["worker_id"] if job["status"] == "running" else None


def _is_gone(platform: RunningPlatform, provider: str, job_id: str, worker_id: str) -> bool:
    if provider == "docker":
        return f"hodei-worker-{worker_id}" not in containers(platform)
    return not process_tree.with_text(job_id) and not process_tree.with_text(worker_id)
