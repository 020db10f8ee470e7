"""Letting go of a worker whose job is over, in the transaction that ends the job."""

from __future__ import annotations

from uuid import UUID

from hodei.domain.self_hosted import SELF_HOSTED
from hodei.domain.states import WorkerState
from hodei.ports import Platform
from hodei.providers.contract import Discarding, as_provider_errors
from hodei.storage.transaction import Row, Transaction

JOB_ENDED = "its job ended"
"""Why a worker is TERMINATING when all went as it should: its agent leaves by itself, and is let go."""


def release_worker(
    platform: Platform, tx: Transaction, worker_id: UUID, job_id: UUID, *, reason: str = JOB_ENDED
) -> None:
    """A worker of many jobs is READY for the next; any other is TERMINATING, and destroyed right after the commit.

    One of many jobs is only ended when somebody drains it: else it is on its own way, without this job.
    """
    for change in ("worker_set_ready_if_busy", "worker_unreserve"):
        if tx.execute(change, id=worker_id, job_id=job_id):
            tx.after_commit(platform.courier.look)
            return
    worker = tx.row("worker_lock", id=worker_id)
    if worker is not None and not _stays(worker) and not _is_without(worker, job_id):
        destroy_worker(platform, tx, worker_id, reason=reason)


def _is_without(worker: Row, job_id: UUID) -> bool:
    """Whether a worker of many jobs has been let go of this one before, and may have its next."""
    return worker.max_jobs != 1 and job_id not in (worker.current_job_id, worker.reserved_for)


def give_up_worker(platform: Platform, tx: Transaction, worker_id: UUID, *, reason: str) -> None:
    """A worker that is lost, or not trusted with anything more, is destroyed. A self-hosted one is away: what it says is
    refused until its agent registers again, which it does only when nothing of its jobs lives.
    """
    worker = tx.row("worker_get", id=worker_id)
    if worker is None or not _stays(worker):
        destroy_worker(platform, tx, worker_id, reason=reason)
    elif tx.scalar("worker_set_away", id=worker_id) is not None:
        tx.record("worker", worker_id, "WorkerAway", {"reason": reason}, actor="clock")


def has_registered_since(worker: Row | None, execution: Row | None) -> bool:
    """Whether the worker's agent has registered again since the attempt began: then nothing of the attempt lives."""
    if worker is None or execution is None or worker.registered_at is None:
        return False
    return worker.registered_at > execution.created_at


def _stays(worker: Row) -> bool:
    """Whether it is a self-hosted one that nobody has drained."""
    drained = worker.state == WorkerState.DRAINING or worker.max_jobs == 1
    return worker.provider_type == SELF_HOSTED and not drained


def destroy_worker(platform: Platform, tx: Transaction, worker_id: UUID, *, reason: str) -> None:
    """The worker is TERMINATING, and destroyed right after the commit; nothing when it is so already."""
    if tx.scalar("worker_set_terminating", id=worker_id, destroy_in_s=0.0, reason=reason):
        tx.execute("self_hosted_tell_to_leave", id=worker_id)
        tx.after_commit(lambda: platform.wakeups.wake(f"inbox:{worker_id}"))
        tx.after_commit(lambda: platform.courier.destroy(worker_id))


def end_infrastructure(platform: Platform, worker: Row, *, grace_s: float = 0.0) -> None:
    """Have the provider end what it made for a TERMINATING worker; holds no transaction. Raises ProviderError."""
    with as_provider_errors():
        provider = platform.providers.get(worker.provider_id)
        with platform.provider_call(provider, "stop"):
            if worker.registered_at is None and isinstance(provider, Discarding):
                provider.discard(worker.id)  # its token was revoked when it was set TERMINATING
            else:
                provider.stop(worker.id, grace_s=grace_s)
