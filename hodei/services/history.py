"""What happened: events, sagas, executions."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from hodei.domain.job import JobSpec
from hodei.domain.states import ExecutionState, JobState
from hodei.errors import NotFound
from hodei.ports import Platform
from hodei.services.filters import EventFilter, ExecutionFilter, Filter, SagaFilter
from hodei.services.jobs import error_view
from hodei.services.paging import Page, decode, page_of
from hodei.storage.transaction import Row, Transaction


def _event(row: Row) -> dict[str, Any]:
    return dict(row)


def job_events(platform: Platform, job_id: UUID, *, cursor: str | None = None, limit: int = 50) -> Page:
    """A page of a job's events, oldest first."""
    with platform.database.begin() as tx:
        rows = _of_job(tx, "read_job_events", job_id, cursor, limit)
    return page_of(rows, limit, _event, at="occurred_at")


def list_events(
    platform: Platform, wanted: EventFilter, *, cursor: str | None = None, limit: int = 50
) -> Page:
    """A page of all events, oldest first."""
    after_at, after_id = decode(cursor)
    with platform.database.begin() as tx:
        rows = tx.rows(
            "read_events",
            **_columns(wanted),
            after_at=after_at,
            after_id=after_id,
            limit=limit + 1,
        )
    return page_of(rows, limit, _event, at="occurred_at")


def _columns(wanted: Filter) -> dict[str, Any]:
    return {item.name: getattr(wanted, item.name) for item in fields(wanted)}


def _saga(row: Row) -> dict[str, Any]:
    names = (
        "id",
        "saga_type",
        "state",
        "correlation_id",
        "actor",
        "error_message",
        "metadata",
        "started_at",
        "completed_at",
    )
    steps = [
        step | {name: _time(step[name]) for name in ("started_at", "completed_at")}
        for step in row.steps or []
    ]
    return {name: row[name] for name in names} | {"status": row.state.lower(), "steps": steps}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _sagas(tx: Transaction, **filters: Any) -> list[Row]:
    nothing = {
        "id": None,
        "state": None,
        "saga_type": None,
        "correlation_id": None,
        "since": None,
        "until": None,
        "text": None,
        "before_at": None,
        "before_id": None,
    }
    return tx.rows("read_sagas", **(nothing | filters))


def list_sagas(platform: Platform, wanted: SagaFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
    """A page of sagas, newest first, without their audit trails."""
    before_at, before_id = decode(cursor)
    with platform.database.begin() as tx:
        rows = _sagas(
            tx,
            state=wanted.state,
            saga_type=wanted.saga_type,
            correlation_id=wanted.job_id,
            since=wanted.since,
            until=wanted.until,
            text=wanted.text,
            before_at=before_at,
            before_id=before_id,
            limit=limit + 1,
        )
    return page_of(rows, limit, _saga, at="started_at")


def _audit(tx: Transaction, rows: list[Row]) -> dict[UUID, list[dict[str, Any]]]:
    """The audit trail of each saga, by its id."""
    trails: dict[UUID, list[dict[str, Any]]] = {row.id: [] for row in rows}
    for audit in tx.rows("read_saga_audit", ids=list(trails)):
        trails[audit.saga_id].append({name: value for name, value in audit.items() if name != "saga_id"})
    return trails


def _in_full(row: Row, trails: dict[UUID, list[dict[str, Any]]]) -> dict[str, Any]:
    return _saga(row) | {"audit": trails[row.id]}


def job_sagas(platform: Platform, job_id: UUID, *, cursor: str | None = None, limit: int = 50) -> Page:
    """A page of a job's sagas with steps and audit trails, oldest first."""
    with platform.database.begin() as tx:
        rows = _of_job(tx, "read_job_sagas", job_id, cursor, limit)
        trails = _audit(tx, rows)
    return page_of(rows, limit, lambda row: _in_full(row, trails), at="started_at")


def get_saga(platform: Platform, saga_id: UUID) -> dict[str, Any]:
    """One saga with its steps and audit trail. Raises NotFound."""
    with platform.database.begin() as tx:
        rows = _sagas(tx, id=saga_id, limit=1)
        if not rows:
            raise NotFound(f"There is no saga {saga_id}. List them with: hodei saga list")
        return _in_full(rows[0], _audit(tx, rows))


def _execution(row: Row) -> dict[str, Any]:
    names = (
        "id",
        "job_id",
        "command",
        "attempt",
        "worker_id",
        "provider_type",
        "exit_code",
        "signal",
        "created_at",
        "accepted_at",
        "started_at",
        "completed_at",
    )
    return {name: row[name] for name in names} | {
        "status": row.state,
        "error": error_view(row.error_code, row.error_message, row.job_id),
        "log": {"entries": row.log_entries, "bytes": row.log_bytes, "complete": row.log_complete},
    }


def _executions(tx: Transaction, **filters: Any) -> list[Row]:
    nothing = {
        "id": None,
        "job_id": None,
        "worker_id": None,
        "states": None,
        "since": None,
        "until": None,
        "text": None,
        "before_at": None,
        "before_id": None,
    }
    return tx.rows("read_executions", **(nothing | filters))


def job_executions(platform: Platform, job_id: UUID, *, cursor: str | None = None, limit: int = 50) -> Page:
    """A page of a job's attempts, oldest first."""
    with platform.database.begin() as tx:
        rows = _of_job(tx, "read_job_executions", job_id, cursor, limit)
    return page_of(rows, limit, _execution, at="created_at")


def list_executions(
    platform: Platform, wanted: ExecutionFilter, *, cursor: str | None = None, limit: int = 50
) -> Page:
    """A page of executions, newest first."""
    before_at, before_id = decode(cursor)
    with platform.database.begin() as tx:
        rows = _executions(
            tx,
            job_id=wanted.job_id,
            worker_id=wanted.worker_id,
            states=wanted.status,
            since=wanted.since,
            until=wanted.until,
            text=wanted.text,
            before_at=before_at,
            before_id=before_id,
            limit=limit + 1,
        )
    return page_of(rows, limit, _execution, at="created_at")


def get_execution(platform: Platform, execution_id: UUID) -> dict[str, Any]:
    """One execution, also when it was asked for by hand and has not begun. Raises NotFound."""
    with platform.database.begin() as tx:
        rows = _executions(tx, id=execution_id, limit=1)
        asked_for = None if rows else tx.row("read_promised_execution", id=execution_id)
    if rows:
        return _execution(rows[0])
    if asked_for is None:
        raise NotFound(f"There is no execution {execution_id}.")
    return _not_begun(asked_for)


def _not_begun(asked_for: Row) -> dict[str, Any]:
    """An execution that was asked for and has no worker yet; when its job ended without it, it ended as the job did."""
    over = JobState(asked_for.state).is_terminal and asked_for.attempts < asked_for.attempt
    unknown = ("worker_id", "provider_type", "exit_code", "signal", "accepted_at", "started_at")
    known = {
        "id": asked_for.id,
        "job_id": asked_for.job_id,
        "command": JobSpec.from_json(asked_for.spec).command,
        "attempt": asked_for.attempt,
        "state": asked_for.state.lower() if over else ExecutionState.PENDING.value,
        "error_code": asked_for.error_code if over else None,
        "error_message": asked_for.error_message if over else None,
        "created_at": asked_for.occurred_at,
        "completed_at": asked_for.completed_at if over else None,
        "log_entries": 0,
        "log_bytes": 0,
        "log_complete": over,
    }
    return _execution(Row(dict.fromkeys(unknown) | known))


def _of_job(tx: Transaction, name: str, job_id: UUID, cursor: str | None, limit: int) -> list[Row]:
    """What is remembered of a job after the cursor, and one row more than ``limit`` if there is one. Raises NotFound."""
    after_at, after_id = decode(cursor)
    if tx.row("read_job_state", id=job_id) is None:
        raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
    return tx.rows(name, job_id=job_id, after_at=after_at, after_id=after_id, limit=limit + 1)
