"""Workers: looking at them, and destroying those that are TERMINATING."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog

from hodei.domain.self_hosted import SELF_HOSTED
from hodei.errors import NotFound
from hodei.ports import Platform
from hodei.providers.contract import ProviderError
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.release import JOB_ENDED, end_infrastructure
from hodei.services.filters import WorkerFilter
from hodei.services.paging import Page, decode, page_of
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

LEAVING_S = 5.0
"""An agent whose job has ended leaves by itself, at once or when the copy of the output on its stdout is written, for which it
waits no longer than 4 s; it is let go, so that ``docker logs`` is not cut off."""

_STATUS = {
    "CREATING": "starting",
    "CONNECTING": "starting",
    "READY": "running",
    "BUSY": "running",
    "DRAINING": "running",
    "TERMINATING": "stopping",
    "TERMINATED": "stopped",
}


def worker_view(row: Row) -> dict[str, Any]:
    """A worker in the shape of ``docs/reference/http.md``."""
    return {
        "id": row.id,
        "type": row.worker_type or row.provider_type,
        "provider_id": row.provider_id,
        "provider_type": row.provider_type,
        "provider_resource_id": row.provider_resource_id,
        "state": row.state,
        "status": _STATUS[row.state],
        "current_job_id": row.current_job_id,
        "job_id": row.current_job_id or row.reserved_for or row.last_job_id,
        "last_heartbeat": row.last_heartbeat,
        "usage": row.usage,
        "created_at": row.created_at,
        "started_at": row.registered_at,
        "updated_at": row.updated_at,
        "terminated_at": row.terminated_at,
        "termination_reason": row.termination_reason,
    }


def list_workers(
    platform: Platform, wanted: WorkerFilter, *, cursor: str | None = None, limit: int = 50
) -> Page:
    """A page of workers, newest first."""
    before_at, before_id = decode(cursor)
    with platform.database.begin() as tx:
        rows = _read(tx, wanted, before_at=before_at, before_id=before_id, limit=limit + 1)
    return page_of(rows, limit, worker_view, at="created_at")


def get_worker(platform: Platform, worker_id: UUID) -> dict[str, Any]:
    """One worker. Raises NotFound."""
    with platform.database.begin() as tx:
        rows = _read(tx, WorkerFilter(), id=worker_id)
    if not rows:
        raise NotFound(f"There is no worker {worker_id}. List them with: hodei worker list")
    return worker_view(rows[0])


def _read(tx: Transaction, wanted: WorkerFilter, **page: Any) -> list[Row]:
    whole = {"id": None, "before_at": None, "before_id": None, "limit": 1}
    return tx.rows(
        "read_workers",
        states=[word.upper() for word in wanted.state] if wanted.state else None,
        provider=wanted.provider,
        worker_type=wanted.worker_type,
        since=wanted.since,
        until=wanted.until,
        text=wanted.text,
        **(whole | page),
    )


def destroy(platform: Platform, worker_id: UUID) -> bool:
    """Destroy a TERMINATING worker; True once nothing of it is left.

    Idempotent. When the provider cannot, the worker stays TERMINATING and the clock asks again, with back-off.
    """
    with platform.database.begin() as tx:
        worker = tx.row("worker_get", id=worker_id)
        if worker is None or worker.state != "TERMINATING":
            return worker is None or worker.state == "TERMINATED"
        tx.execute("worker_destroy_tried", id=worker_id)
        if worker.provider_type == SELF_HOSTED and not tx.scalar(
            "self_hosted_has_left", id=worker_id, lease_s=platform.settings.lease_over_s
        ):
            return False  # its agent was told, and says goodbye when it has left
    of_job = {"correlation_id": str(worker.last_job_id)} if worker.last_job_id else {}
    with structlog.contextvars.bound_contextvars(worker_id=str(worker_id), **of_job):
        return _destroy(platform, worker_id, worker)


def _destroy(platform: Platform, worker_id: UUID, worker: Row) -> bool:
    try:
        if worker.provider_id is not None:
            leaves = worker.termination_reason == JOB_ENDED and worker.registered_at is not None
            end_infrastructure(platform, worker, grace_s=LEAVING_S if leaves else 0.0)
    except ProviderError as error:
        log.warning("worker.not_destroyed", worker_id=str(worker_id), reason=str(error))
        return False
    with platform.database.begin() as tx:
        if tx.scalar("worker_set_terminated", id=worker_id, reason=None):
            tx.record(
                "worker",
                worker_id,
                "WorkerTerminated",
                {"reason": worker.termination_reason},
                actor="controller",
            )
            tx.after_commit(platform.courier.look)
            if worker.last_job_id is not None:
                wake_sagas_of_job(platform, tx, worker.last_job_id, "CANCELLATION", "TIMEOUT", "RECOVERY")
    return True


def stop_all(platform: Platform, *, reason: str) -> int:
    """End every worker of this deployment; return how many there were. One that cannot be ended stays TERMINATING."""
    with platform.database.begin() as tx:
        live = tx.rows("workers_live")
        for worker in live:
            tx.scalar("worker_set_terminating", id=worker.id, destroy_in_s=0.0, reason=reason)
    for worker in live:
        destroy(platform, worker.id)
    return len(live)
