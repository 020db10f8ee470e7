"""Looking at jobs, and waiting for their end."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any
from uuid import UUID

from hodei.domain.causes import CAUSES
from hodei.domain.job import JobSpec
from hodei.domain.states import JobState
from hodei.errors import NotFound
from hodei.ports import Platform
from hodei.services.filters import JobFilter
from hodei.services.paging import Page, decode, decode_place, encode_place, page_of
from hodei.storage.transaction import Row, Transaction

LOOK_EVERY_S = 2.0
"""How often a waiter looks at Postgres when no wake-up comes."""

NEAR = 5000
"""Of so many jobs each is looked at for its labels before the index over all labels is asked."""


def error_view(code: str | None, message: str | None, job_id: UUID) -> dict[str, Any] | None:
    """A cause as people see it; the commands in its actions name the job."""
    if code is None:
        return None
    cause = CAUSES[code]
    return {
        "code": code,
        "severity": cause.severity.value,
        "message": message or cause.title,
        "actions": [action.replace(" ID", f" {job_id}") for action in cause.actions],
    }


def definition_view(spec: JobSpec) -> dict[str, Any]:
    """What a job does and what it needs for it, as it is shown; secrets by name only."""
    return {
        "command": spec.command,
        "script": spec.script,
        "args": list(spec.args) if spec.args is not None else None,
        "image": spec.image,
        "env": spec.env,
        "secret_env": list(spec.secret_names),
        "provider": spec.provider,
        "required_labels": spec.required_labels,
        "cpu": spec.cpu,
        "memory": spec.memory_bytes,
        "timeout_s": spec.timeout_s,
        "grace_s": spec.grace_s,
        "retries": spec.retries,
        "retry_on": list(spec.retry_on),
        "timeouts": spec.timeouts.to_json(),
    }


def job_view(row: Row) -> dict[str, Any]:
    """A job in the shape of ``docs/reference/http.md``."""
    spec = JobSpec.from_json(row.spec)
    state = JobState(row.state)
    base = f"/api/v1/jobs/{row.id}"
    return {
        "id": row.id,
        "name": row.name,
        **definition_view(spec),
        "priority": row.priority,
        "labels": row.labels,
        "pipeline_id": row.pipeline_id,
        "pipeline_run_id": row.pipeline_run_id,
        "pipeline_node": row.pipeline_node,
        "schedule_id": row.schedule_id,
        "scheduled_for": row.scheduled_for,
        "status": state.value.lower(),
        "status_code": state.code,
        "held": row.held,
        "attempts": row.attempts,
        "max_attempts": row.max_attempts,
        "provider_id": row.selected_provider_id,
        "provider_type": row.provider_type,
        "worker_id": row.worker_id,
        "exit_code": row.exit_code,
        "outputs": (row.result or {}).get("outputs") or {},
        "error": error_view(row.error_code, row.error_message, row.id),
        "created_at": row.created_at,
        "started_at": row.started_at,
        "completed_at": row.completed_at,
        "cancel_requested_at": row.cancel_requested_at,
        "queue_position": row.queue_position,
        "log": {
            "entries": row.log_entries or 0,
            "bytes": row.log_bytes or 0,
            "complete": bool(row.log_complete),
        },
        "links": {"self": base}
        | {name: f"{base}/{name}" for name in ("logs", "events", "sagas", "executions", "why")},
    }


def get_job(platform: Platform, job_id: UUID) -> dict[str, Any]:
    """One job. Raises NotFound."""
    with platform.database.glance() as tx:
        row = tx.row("read_job", id=job_id)
    if row is None:
        raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
    return job_view(row)


def list_jobs(platform: Platform, wanted: JobFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
    """A page of jobs, newest first."""
    before_at, before_id = decode(cursor)
    if before_at is None and wanted.until is not None:
        before_at, before_id = wanted.until, UUID(int=0)
    place = {"before_at": before_at, "before_id": before_id}
    with platform.database.begin() as tx:
        rows = _newest(tx, wanted, place, limit + 1) if wanted.label else None
        if rows is None:
            rows = _jobs(tx, wanted, place, limit + 1, since=wanted.since)
    return page_of(rows, limit, job_view, at="created_at")


def _newest(tx: Transaction, wanted: JobFilter, place: dict[str, Any], count: int) -> list[Any] | None:
    """So many jobs, where they are among the :data:`NEAR` next ones of the list; None where they are not.

    The index over labels knows no order: by it, all jobs with a common label would be read and sorted for each page.
    """
    horizon = tx.row("read_jobs_horizon", count=NEAR, **place)
    if horizon is None or (wanted.since and wanted.since > horizon.created_at):
        return None
    rows = _jobs(tx, wanted, place, count, since=horizon.created_at)
    return rows if len(rows) == count else None


def _jobs(
    tx: Transaction, wanted: JobFilter, place: dict[str, Any], count: int, *, since: datetime | None
) -> list[Any]:
    return tx.rows(
        "read_jobs",
        states=[word.upper() for word in wanted.status] if wanted.status else None,
        labels=json.dumps(wanted.label) if wanted.label else None,
        name=wanted.name,
        provider=wanted.provider,
        pipeline_id=wanted.pipeline_id,
        schedule_id=wanted.schedule_id,
        since=since,
        until=wanted.until,
        text=wanted.text,
        limit=count,
        **place,
    )


def list_queue(platform: Platform, wanted: JobFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
    """A page of the jobs that wait for a worker, in the order in which they get one. Only labels, provider and text narrow it."""
    after_priority, after_at, after_id = decode_place(cursor)
    with platform.database.begin() as tx:
        rows = tx.rows(
            "read_queue",
            labels=json.dumps(wanted.label) if wanted.label else None,
            provider=wanted.provider,
            text=wanted.text,
            after_priority=after_priority,
            after_at=after_at,
            after_id=after_id,
            limit=limit + 1,
        )
    shown = rows[:limit]
    more = None
    if len(rows) > limit:
        more = encode_place(shown[-1].priority, shown[-1].queued_at, shown[-1].id)
    return Page(items=[job_view(row) for row in shown], next_cursor=more)


def wait_for_job(platform: Platform, job_id: UUID, timeout_s: float) -> dict[str, Any]:
    """The job once it has ended, or as it is after ``timeout_s``. Holds no connection while it waits."""
    give_up = time.monotonic() + timeout_s
    with platform.wakeups.listen(f"job:{job_id}") as ear:
        while True:
            with platform.database.glance() as tx:
                row = tx.row("read_job_state", id=job_id)
            if row is None:
                raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
            remaining = give_up - time.monotonic()
            if JobState(row.state).is_terminal or remaining <= 0 or platform.wakeups.closing:
                return get_job(platform, job_id)
            ear.wait(min(remaining, LOOK_EVERY_S))
