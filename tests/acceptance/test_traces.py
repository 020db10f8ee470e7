"""One trace per job: from the caller's own span to the result, told to a collector."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.otlp import Received, Receiver, receiver
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database
from support.waiting import until

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "00f067aa0ba902b7"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiver() as listening:
        yield listening


@pytest.fixture(scope="module")
def traced(
    servers: Servers, collector: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPlatform]:
    """The platform, each service in a process of its own, with traces on."""
    with fresh_database(servers) as url:
        names = ("orchestrator", "worker-manager", "controller", "beat")
        running = RunningPlatform(
            tmp_path_factory.mktemp("traced"), url, servers.redis_url, names=names, log_format="json"
        )
        running.env |= SOON | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        with running:
            yield running


def submit(platform: RunningPlatform, *, traceparent: str | None = None, **job: object) -> str:
    """Submit a job and wait for its end; its id."""
    headers = {"traceparent": traceparent} if traceparent else {}
    wanted = {"name": "traced", "provider": "process"} | job
    answer = httpx.post(f"{platform.url}/api/v1/jobs", json=wanted, headers=headers, timeout=30)
    answer.raise_for_status()
    job_id = str(answer.json()["id"])
    until(
        lambda: httpx.get(f"{platform.url}/api/v1/jobs/{job_id}?wait=30", timeout=60).json()["completed_at"],
        within_s=90,
        what="the job's end",
    )
    return job_id


def whole(collector: Receiver, job_id: str) -> list[Received]:
    """The job's trace once it is whole: its own span came, and what it takes to destroy its worker."""

    def there() -> list[Received]:
        spans = collector.of_job(job_id)
        names = {span.name for span in spans}
        return spans if {"job", "workers.destroy"} <= names else []

    return until(there, within_s=60, what="the job's trace")


def one(spans: list[Received], name: str) -> Received:
    found = [span for span in spans if span.name == name]
    assert len(found) == 1, f"{name}: {len(found)} of {[span.name for span in spans]}"
    return found[0]


def parent_of(spans: list[Received], span: Received) -> Received:
    return next(other for other in spans if other.span_id == span.parent_id)


def test_a_jobs_trace_goes_from_the_callers_span_to_the_result(
    traced: RunningPlatform, collector: Receiver
) -> None:
    job_id = submit(
        traced, command='sleep 0.5; echo "trace $TRACEPARENT"', traceparent=f"00-{CALLER}-{CALLERS_SPAN}-01"
    )

    spans = whole(collector, job_id)

    # one trace, the caller's, and every span but the first has its parent in it
    assert {span.trace_id for span in spans} == {CALLER}
    ids = {span.span_id for span in spans}
    assert [span.name for span in spans if span.parent_id not in ids] == ["POST /api/v1/jobs"]
    request = one(spans, "POST /api/v1/jobs")
    assert (request.parent_id, request.kind, request.service) == (
        CALLERS_SPAN,
        "server",
        "hodei-orchestrator",
    )
    assert request.attributes["http.response.status_code"] == 201

    # who is within whom
    within = {
        "submit job": "POST /api/v1/jobs",
        "job": "submit job",
        "outbox JobCreated": "job",
        "queue": "job",
        "attempt 1": "job",
        "provisioning": "attempt 1",
        "execution": "attempt 1",
        "CreateInfrastructure": "provisioning",
        "ExecuteJob": "execution",
        "CompleteJob": "execution",
        "agent register": "attempt 1",
        "agent accept": "attempt 1",
        "agent start": "attempt 1",
        "agent run": "attempt 1",
        "agent result": "attempt 1",
        "process start": "provisioning.create_infrastructure",
        "process stop": "workers.destroy",
        "workers.destroy": "attempt 1",
    }
    for child, parent in within.items():
        assert parent_of(spans, one(spans, child)).name == parent, child
    tasks = {span.name: parent_of(spans, span).name for span in spans if span.kind == "consumer"}
    assert tasks["provisioning.create_infrastructure"] == "CreateInfrastructure"
    assert tasks["execution.complete_job"] == "CompleteJob"
    assert {span.service for span in spans if span.kind == "consumer"} == {"hodei-controller"}

    # how long, and how it went
    run, job = one(spans, "agent run"), one(spans, "job")
    assert 0.5 <= run.seconds < 5
    assert job.began_ns <= one(spans, "queue").began_ns and run.ended_ns <= job.ended_ns
    assert one(spans, "execution").seconds >= run.seconds
    assert not [span.name for span in spans if span.is_error]
    assert job.attributes["hodei.job.status"] == "succeeded"

    # and the job itself can go on with it
    log = traced.hodei("job", "logs", job_id).stdout
    assert log == f"trace 00-{CALLER}-{run.span_id}-01\n"


def test_a_retry_is_an_attempt_in_the_same_trace_and_what_failed_says_so(
    traced: RunningPlatform, collector: Receiver
) -> None:
    job_id = submit(traced, command="exit 3", retries=1)

    spans = whole(collector, job_id)

    assert len({span.trace_id for span in spans}) == 1
    attempts = [one(spans, f"attempt {number}") for number in (1, 2)]
    assert attempts[0].ended_ns <= attempts[1].began_ns
    for attempt in attempts:
        assert attempt.is_error and attempt.attributes["error.type"] == "ERR_1007"
        run = next(s for s in spans if s.name == "agent run" and s.parent_id == attempt.span_id)
        assert run.is_error and run.attributes["process.exit.code"] == 3
    job = one(spans, "job")
    assert job.is_error and "exit code 3" in job.message
    assert not any(span.is_error for span in spans if span.name in ("execution", "POST /api/v1/jobs"))


def test_a_trace_survives_a_crash_of_every_process_and_an_emptied_redis(
    traced: RunningPlatform, collector: Receiver
) -> None:
    import redis

    answer = httpx.post(
        f"{traced.url}/api/v1/jobs",
        json={"name": "survivor", "provider": "process", "command": "sleep 2"},
        headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"},
        timeout=30,
    )
    job_id = answer.json()["id"]
    state = "SELECT state FROM jobs WHERE id = %s"
    until(lambda: traced.sql(state, job_id) == [("RUNNING",)], within_s=60, what="RUNNING")
    for name in list(traced.processes):
        traced.kill(name)
    client = redis.Redis.from_url(traced.redis_url)
    client.flushall()
    client.close()
    for name in list(traced.processes):
        traced.start(name)
    until(lambda: traced.sql(state, job_id) == [("SUCCEEDED",)], within_s=90, what="the job's end")

    found = until(
        lambda: [span for span in collector.spans("ab" * 16) if span.name == "job"],
        within_s=60,
        what="the job's span",
    )
    spans = collector.spans("ab" * 16)
    assert found[0].attributes["hodei.job.id"] == job_id
    assert {"attempt 1", "execution", "agent run", "agent result"} <= {span.name for span in spans}


def test_each_job_of_a_batch_has_a_trace_of_its_own_linked_to_the_request(
    traced: RunningPlatform, collector: Receiver
) -> None:
    jobs = [{"name": f"n{n}", "provider": "process", "command": "true"} for n in range(2)]
    made = httpx.post(
        f"{traced.url}/api/v1/jobs/batch",
        json={"jobs": jobs},
        headers={"traceparent": f"00-{'12' * 16}-{'34' * 8}-01"},
        timeout=30,
    ).json()

    traces = [whole(collector, job["id"])[0].trace_id for job in made]

    assert len({*traces, "12" * 16}) == 3
    for job in made:
        submitted = one(collector.of_job(job["id"]), "submit job")
        assert submitted.parent_id == "" and submitted.links == ["12" * 16]


def test_a_caller_who_does_not_sample_gets_no_spans(traced: RunningPlatform, collector: Receiver) -> None:
    silent = "99" * 16
    submit(traced, command="true", traceparent=f"00-{silent}-{'88' * 8}-00")
    heard = submit(traced, command="true")

    whole(collector, heard)

    assert collector.spans(silent) == []


def test_a_collector_that_never_answers_slows_no_request_and_no_job(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        running = RunningPlatform(tmp_path, database_url, servers.redis_url)
        running.env |= SOON | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{mute.getsockname()[1]}"}
        with running:
            slowest = 0.0
            for _ in range(20):
                began = time.monotonic()
                httpx.get(f"{running.url}/api/v1/jobs", timeout=30).raise_for_status()
                slowest = max(slowest, time.monotonic() - began)
            job_id = submit(running, command="true")
            assert slowest < 5
            assert running.sql("SELECT state FROM jobs WHERE id = %s", job_id) == [("SUCCEEDED",)]
