"""Cancelling a job: the wish is noted at once; what still lives of the job is ended by its CANCELLATION."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hodei.domain.ids import saga_id
from hodei.domain.job import JobSpec
from hodei.domain.states import JobState
from hodei.errors import Conflict, NotFound
from hodei.ports import Platform
from hodei.sagas.cancellation import tell_to_cancel
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.registry import engine
from hodei.sagas.settle import settle_attempt
from hodei.services.jobs import get_job
from hodei.storage.transaction import Row, Transaction


def cancel_job(platform: Platform, job_id: UUID, *, actor: str) -> dict[str, Any]:
    """Note the wish and return the job. One that waits in the queue is CANCELLED in the same transaction.

    Asked again, also after it is CANCELLED, it answers the same. Raises NotFound, and Conflict when the job has ended otherwise.
    """
    with platform.database.begin() as tx:
        job = tx.row("job_lock", id=job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
        state = JobState(job.state)
        if state.is_terminal and not (state is JobState.CANCELLED and job.cancel_requested_at is not None):
            raise Conflict(f"The job has ended already: it is {state.value}.", job_status=state.value.lower())
        request_cancel(platform, tx, job, actor=actor)
    return get_job(platform, job_id)


def request_cancel(platform: Platform, tx: Transaction, job: Row, *, actor: str) -> bool:
    """Note the wish for a job whose row is held, and end it; False when it was noted before, or the job has ended."""
    if not tx.execute("job_request_cancel", id=job.id):
        return False
    payload = {"state": job.state, "attempt": job.attempts}
    tx.record("job", job.id, "JobCancelRequested", payload, actor=actor)
    noted = tx.row("job_lock", id=job.id)
    assert noted is not None
    _end(platform, tx, noted, actor)
    return True


def _end(platform: Platform, tx: Transaction, job: Row, actor: str) -> None:
    spec = JobSpec.from_json(job.spec)
    if job.state == JobState.PENDING:
        settle_attempt(platform, tx, job, spec=spec, failure=None, end=JobState.CANCELLED, actor=actor)
        wake_sagas_of_job(platform, tx, job.id, "RECOVERY")
        return
    execution = tx.row("execution_to_cancel", job_id=job.id, attempt=job.attempts)
    engine(platform).start(
        tx,
        "CANCELLATION",
        saga_id=saga_id("CANCELLATION", job.id, job.attempts, job.tries),
        subject_id=job.id,
        correlation_id=job.id,
        actor=actor,
        metadata={
            "job_id": str(job.id),
            "attempt": job.attempts,
            "assigned": job.state != JobState.SCHEDULED,
            "told": execution is not None,
            "tries": job.tries,
            "worker_id": str(job.worker_id),
            "requested_at": job.cancel_requested_at.isoformat(),
            "grace_s": spec.grace_s,
            "cancel_s": spec.timeouts.cancel_s,
        },
    )
    if execution is not None:  # at once: the saga may have to wait for a controller
        tell_to_cancel(platform, tx, execution, grace_s=spec.grace_s)
