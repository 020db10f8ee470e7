"""A job's trace: begun when it is submitted, kept with it in Postgres, told whole by the clock once it has ended.

While it goes on, requests, Celery tasks and calls of providers tell of themselves, within spans whose ids follow from the job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hodei.domain.states import ExecutionState, JobState, SagaState
from hodei.errors import DatabaseUnavailable
from hodei.observability.tracing import Told, span_id, with_span
from hodei.ports import Platform
from hodei.storage.transaction import Row, Transaction

BATCH = 50
UNDER_AN_ATTEMPT = ("PROVISIONING", "EXECUTION")
WENT_WRONG = (ExecutionState.FAILED, ExecutionState.TIMEOUT, ExecutionState.LOST)


def begin(platform: Platform, tx: Transaction, jobs: Iterable[tuple[str, str]]) -> None:
    """Begin the traces of these new jobs, as (id, name).

    One that a request asked for belongs to the request's trace; each of many, and one that no request asked for, has a trace of
    its own, linked to what asked for it.
    """
    if not platform.tracing.on:
        return
    new = list(jobs)
    asked_by = platform.tracing.current()
    contexts = []
    for job_id, name in new:
        apart = len(new) > 1 or not platform.tracing.in_request()
        with platform.tracing.span(
            "submit job",
            kind="producer",
            apart=apart,
            link=asked_by if apart else None,
            attributes={"hodei.job.id": job_id, "hodei.job.name": name},
        ):
            contexts.append({"job_id": job_id, "traceparent": platform.tracing.current()})
    tx.execute("traces_insert", traces=json.dumps(contexts))


def environment(platform: Platform, tx: Transaction, job_id: UUID, attempt: int) -> dict[str, str]:
    """What a job is told of its trace, so that its own spans are within its run; nothing while traces are off."""
    row = tx.row("trace_of_job", job_id=job_id) if platform.tracing.on else None
    if row is None:
        return {}
    return {"TRACEPARENT": with_span(row.traceparent, span_id(job_id, "run", attempt))}


def step_task(platform: Platform, saga: UUID, step: str, task: str) -> AbstractContextManager[Any]:
    """A span for a Celery task that looks at a step, within the step's."""
    row = _find(platform, "trace_of_saga", saga_id=saga)
    if row is None:
        return nullcontext()
    parent = with_span(row.traceparent, span_id(saga, step))
    attributes = {"messaging.system": "celery", "hodei.job.id": str(row.job_id), "hodei.saga.id": str(saga)}
    return platform.tracing.span(task, kind="consumer", parent=parent, attributes=attributes)


def worker_task(platform: Platform, worker: UUID, task: str) -> AbstractContextManager[Any]:
    """A span for a Celery task about a worker, within the attempt that it was for."""
    row = _find(platform, "trace_of_worker", worker_id=worker)
    if row is None:
        return nullcontext()
    parent = with_span(row.traceparent, span_id(row.job_id, "attempt", max(1, row.attempt)))
    attributes = {
        "messaging.system": "celery",
        "hodei.job.id": str(row.job_id),
        "hodei.worker.id": str(worker),
    }
    return platform.tracing.span(task, kind="consumer", parent=parent, attributes=attributes)


def _find(platform: Platform, query: str, **parameters: UUID) -> Row | None:
    """None also while the database is away: the task that asks will say so."""
    if not platform.tracing.on:
        return None
    try:
        with platform.database.glance() as tx:
            return tx.row(query, **parameters)
    except DatabaseUnavailable:
        return None


def tell_ended(platform: Platform) -> int:
    """Tell of the jobs that have ended. At least once: a crash in between tells again, with the same ids."""
    if not platform.tracing.on:
        return 0
    with platform.database.begin() as tx:
        due = tx.rows("traces_to_tell", limit=BATCH)
        for row in due:
            for told in _spans(tx, row):
                platform.tracing.tell(told)
            tx.execute("trace_told", job_id=row.job_id)
    return 0


def _spans(tx: Transaction, row: Row) -> list[Told]:
    job = tx.row("trace_job", job_id=row.job_id)
    if job is None:
        return []
    since = row.told_until
    sagas = [saga for saga in tx.rows("trace_sagas", job_id=job.id, since=since) if saga.completed_at]
    executions = tx.rows("trace_executions", job_id=job.id, since=since)
    whole = _job(job, row)
    within_job = with_span(row.traceparent, whole.span_id)
    spans = _outbox(tx, job, since, within_job)
    attempts = _attempts(job, sagas, executions, within_job)
    spans += attempts.values()
    first = min((attempt.began for attempt in attempts.values()), default=job.completed_at)
    spans.append(
        Told(
            name="queue",
            parent=within_job,
            span_id=span_id(job.id, "queue", row.runs),
            began=whole.began,
            ended=first,
        )
    )
    for saga in sagas:
        attempt = attempts.get(saga.attempt) if saga.saga_type in UNDER_AN_ATTEMPT else None
        parent = within_job if attempt is None else with_span(row.traceparent, attempt.span_id)
        spans += _saga(saga, parent, row.traceparent)
    for execution in executions:
        within_attempt = with_span(row.traceparent, span_id(job.id, "attempt", execution.attempt))
        spans += _agent(execution, within_attempt)
    return [*spans, whole]  # as it ends: after all that is within it


def _job(job: Row, row: Row) -> Told:
    wrong = job.state in (JobState.FAILED, JobState.TIMEOUT)
    return Told(
        name="job",
        parent=row.traceparent,
        span_id=span_id(job.id, "job", row.runs),
        began=job.created_at if row.runs == 0 else job.queued_at,
        ended=job.completed_at,
        error=(job.error_message or job.state) if wrong else None,
        attributes={
            "hodei.job.id": str(job.id),
            "hodei.job.name": job.name,
            "hodei.job.status": job.state.lower(),
            "hodei.job.attempts": job.attempts,
            "hodei.job.exit_code": job.exit_code,
            "hodei.provider": job.provider,
            "error.type": job.error_code,
        },
    )


def _outbox(tx: Transaction, job: Row, since: datetime, parent: str) -> list[Told]:
    return [
        Told(
            name=f"outbox {event.event_type}",
            parent=parent,
            span_id=span_id(job.id, "outbox", event.created_at),
            began=event.created_at,
            ended=event.published_at,
            kind="producer",
        )
        for event in tx.rows("trace_outbox", job_id=job.id, since=since)
    ]


def _attempts(job: Row, sagas: list[Row], executions: list[Row], parent: str) -> dict[int, Told]:
    """By number. An attempt begins when something is done for it, and has ended when that has."""
    numbers = {execution.attempt for execution in executions}
    numbers |= {saga.attempt for saga in sagas if saga.saga_type in UNDER_AN_ATTEMPT}
    found: dict[int, Told] = {}
    for number in sorted(number for number in numbers if number is not None):
        own = [saga for saga in sagas if saga.attempt == number and saga.saga_type in UNDER_AN_ATTEMPT]
        execution = next((row for row in executions if row.attempt == number), None)
        began = [saga.started_at for saga in own] + ([execution.created_at] if execution else [])
        ended = [saga.completed_at for saga in own]
        ended += [execution.completed_at] if execution is not None and execution.completed_at else []
        if not ended:
            continue
        found[number] = Told(
            name=f"attempt {number}",
            parent=parent,
            span_id=span_id(job.id, "attempt", number),
            began=min(began),
            ended=max(ended),
            error=_error_of_attempt(own, execution),
            attributes={
                "hodei.attempt": number,
                "hodei.execution.id": str(execution.id) if execution else None,
                "hodei.execution.status": execution.state if execution else None,
                "hodei.worker.id": str(execution.worker_id) if execution else None,
                "error.type": execution.error_code if execution else None,
            },
        )
    return found


def _error_of_attempt(sagas: list[Row], execution: Row | None) -> str | None:
    if execution is not None:
        return (execution.error_message or execution.state) if execution.state in WENT_WRONG else None
    return next((saga.error_message or "" for saga in sagas if saga.state == SagaState.FAILED), None)


def _saga(saga: Row, parent: str, trace: str) -> list[Told]:
    """The saga and its steps, for as long as each was under way, what it waited for included."""
    own = span_id(saga.id)
    spans = [
        Told(
            name=saga.saga_type.lower(),
            parent=parent,
            span_id=own,
            began=saga.started_at,
            ended=saga.completed_at,
            error=(saga.error_message or "") if saga.state == SagaState.FAILED else None,
            attributes={
                "hodei.saga.id": str(saga.id),
                "hodei.saga.state": saga.state.lower(),
                "error.type": saga.error_code,
            },
        )
    ]
    for step in saga.steps or ():
        if step["ended"] is None:
            continue
        spans.append(
            Told(
                name=step["name"],
                parent=with_span(trace, own),
                span_id=span_id(saga.id, step["name"]),
                began=_moment(step["began"]),
                ended=_moment(step["ended"]),
                error=step["error"],
                attributes={"hodei.step.state": step["state"].lower()},
            )
        )
    return spans


def _moment(epoch: float) -> datetime:
    return datetime.fromtimestamp(float(epoch), UTC)


def _agent(execution: Row, parent: str) -> list[Told]:
    """What the agent did, by what it reported: the platform's clock says when, the agent's how long the job ran."""
    phases: list[tuple[str, datetime | None, datetime | None]] = []
    if execution.max_jobs == 1:  # made for this attempt
        phases.append(("register", execution.worker_created_at, execution.registered_at))
    phases.append(("accept", execution.created_at, execution.accepted_at))
    phases.append(("start", execution.accepted_at, execution.started_at))
    over = _run_ended(execution)
    phases.append(("run", execution.started_at, over))
    phases.append(("result", over, execution.reported_at))
    wrong = execution.exit_code not in (None, 0) or execution.error_code is not None
    return [
        Told(
            name=f"agent {phase}",
            parent=parent,
            span_id=span_id(execution.job_id, phase, execution.attempt),
            began=began,
            ended=ended,
            error=(execution.error_message or "") if wrong and phase == "run" else None,
            attributes={
                "hodei.worker.id": str(execution.worker_id),
                "process.exit.code": execution.exit_code if phase == "run" else None,
            },
        )
        for phase, began, ended in phases
        if began is not None and ended is not None
    ]


def _run_ended(execution: Row) -> datetime | None:
    if execution.started_at is None or execution.reported_at is None:
        return None
    report: dict[str, Any] = execution.result or {}
    began_us, ended_us = report.get("started_at"), report.get("finished_at")
    if began_us is None or ended_us is None:
        return execution.reported_at
    ended = datetime.fromtimestamp(execution.started_at.timestamp() + max(0, ended_us - began_us) / 1e6, UTC)
    return min(ended, execution.reported_at)
