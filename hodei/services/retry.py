"""Asking for a further attempt of a job that has ended."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hodei.domain.job import JobSpec
from hodei.domain.states import JobState
from hodei.errors import Conflict, NotFound
from hodei.ports import Platform
from hodei.services.idempotency import RequestKey, once
from hodei.services.jobs import job_view
from hodei.storage.transaction import Transaction


def retry_job(
    platform: Platform, job_id: UUID, *, actor: str, key: RequestKey | None = None
) -> dict[str, Any]:
    """Put a job that FAILED, ran into a time-out or was CANCELLED back into the queue; its attempts before stay.

    With ``key``, a request that is sent again gets the first answer and no second attempt. Raises NotFound; Conflict for a job
    in another state, and for one whose secrets were forgotten at its end.
    """
    with platform.database.begin() as tx:
        return once(tx, key, lambda: _retry(platform, tx, job_id, actor))


def _retry(platform: Platform, tx: Transaction, job_id: UUID, actor: str) -> dict[str, Any]:
    job = tx.row("job_lock", id=job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
    state = JobState(job.state)
    if not state.is_terminal or state is JobState.SUCCEEDED:
        said = (
            "it has done its work; submit it again for another run"
            if state.is_terminal
            else "wait for its end"
        )
        raise Conflict(f"The job is {state.value}: {said}.", job_status=state.value.lower())
    if JobSpec.from_json(job.spec).secret_names:
        raise Conflict("The job's secrets were forgotten when it ended: submit it again, with them.")
    payload = {
        "attempt": job.attempts,
        "old_state": state.value,
        "error_code": job.error_code,
        "error_message": job.error_message,
        "delay_s": 0.0,
        "paid_by": "operator",
    }
    tx.execute("job_set_pending_by_hand", id=job_id)
    tx.record("job", job_id, "JobRetried", payload, actor=actor)
    tx.after_commit(platform.courier.look)
    tx.after_commit(platform.courier.relay)
    row = tx.row("read_job", id=job_id)
    assert row is not None
    return job_view(row)
