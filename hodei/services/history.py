"""What happened: events, sagas, executions."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from hodei.errors import NotFound
from hodei.ports import Platform
from hodei.services.jobs import error_view
from hodei.services.paging import Page, decode, page_of
from hodei.storage.transaction import Row, Transaction

EVERYTHING = 500


def _event(row: Row) -> dict[str, Any]:
    return dict(row)


def job_events(platform: Platform, job_id: UUID) -> list[dict[str, Any]]:
    """A job's events, oldest first."""
    with platform.database.begin() as tx:
        _job_or_404(tx, job_id)
        return [_event(row) for row in tx.rows("read_job_events", job_id=job_id)]


def list_events(
    platform: Platform,
    *,
    event_type: str | None = None,
    aggregate_id: UUID | None = None,
    correlation_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """A page of all events, oldest first."""
    after_at, after_id = decode(cursor)
    with platform.database.begin() as tx:
        rows = tx.rows(
            "read_events",
            event_type=event_type,
            aggregate_id=aggregate_id,
            correlation_id=correlation_id,
            after_at=after_at,
            after_id=after_id,
            limit=limit + 1,
        )
    return page_of(rows, limit, _event, at="occurred_at")


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
        "before_at": None,
        "before_id": None,
    }
    return tx.rows("read_sagas", **(nothing | filters))


def list_sagas(
    platform: Platform,
    *,
    state: str | None = None,
    saga_type: str | None = None,
    job_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """A page of sagas, newest first, without their audit trails."""
    before_at, before_id = decode(cursor)
    with platform.database.begin() as tx:
        rows = _sagas(
            tx,
            state=state and state.upper(),
            saga_type=saga_type and saga_type.upper(),
            correlation_id=job_id,
            before_at=before_at,
            before_id=before_id,
            limit=limit + 1,
        )
    return page_of(rows, limit, _saga, at="started_at")


def _with_audit(tx: Transaction, rows: list[Row]) -> list[dict[str, Any]]:
    trail: dict[UUID, list[dict[str, Any]]] = {row.id: [] for row in rows}
    for audit in tx.rows("read_saga_audit", ids=list(trail)):
        trail[audit.saga_id].append({name: value for name, value in audit.items() if name != "saga_id"})
    return [_saga(row) | {"audit": trail[row.id]} for row in rows]


def job_sagas(platform: Platform, job_id: UUID) -> list[dict[str, Any]]:
    """A job's sagas with steps and audit trails, oldest first."""
    with platform.database.begin() as tx:
        _job_or_404(tx, job_id)
        return _with_audit(tx, list(reversed(_sagas(tx, correlation_id=job_id, limit=EVERYTHING))))


def get_saga(platform: Platform, saga_id: UUID) -> dict[str, Any]:
    """One saga with its steps and audit trail. Raises NotFound."""
    with platform.database.begin() as tx:
        rows = _sagas(tx, id=saga_id, limit=1)
        if not rows:
            raise NotFound(f"There is no saga {saga_id}. List them with: hodei saga list")
        return _with_audit(tx, rows)[0]


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
    nothing = {"id": None, "job_id": None, "state": None, "before_at": None, "before_id": None}
    return tx.rows("read_executions", **(nothing | filters))


def job_executions(platform: Platform, job_id: UUID) -> list[dict[str, Any]]:
    """A job's attempts, oldest first."""
    with platform.database.begin() as tx:
        _job_or_404(tx, job_id)
        return [_execution(row) for row in reversed(_executions(tx, job_id=job_id, limit=EVERYTHING))]


def list_executions(
    platform: Platform,
    *,
    job_id: UUID | None = None,
    status: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """A page of executions, newest first."""
    before_at, before_id = decode(cursor)
    with platform.database.begin() as tx:
        rows = _executions(
            tx, job_id=job_id, state=status, before_at=before_at, before_id=before_id, limit=limit + 1
        )
    return page_of(rows, limit, _execution, at="created_at")


def get_execution(platform: Platform, execution_id: UUID) -> dict[str, Any]:
    """One execution. Raises NotFound."""
    with platform.database.begin() as tx:
        rows = _executions(tx, id=execution_id, limit=1)
    if not rows:
        raise NotFound(f"There is no execution {execution_id}.")
    return _execution(rows[0])


def _job_or_404(tx: Transaction, job_id: UUID) -> None:
    if tx.row("read_job_state", id=job_id) is None:
        raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
