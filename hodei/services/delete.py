"""Deleting a job, with its attempts and logs; what happened to it stays on record as events and sagas."""

from __future__ import annotations

from uuid import UUID

from hodei.domain.states import JobState
from hodei.errors import Conflict, NotFound
from hodei.logs.export import delete_exported
from hodei.ports import Platform
from hodei.storage.transaction import Row


def delete_job(platform: Platform, job_id: UUID, *, actor: str) -> None:
    """Forget a job that has ended, or a definition that is held. Raises NotFound, and Conflict for any other,
    and for one that a schedule fires. Schedules of it that have ended go with it."""
    with platform.database.begin() as tx:
        job = tx.row("job_lock", id=job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
        if not JobState(job.state).is_terminal and not (job.held and job.state == JobState.PENDING):
            raise Conflict(
                f"The job is {job.state}: cancel it first (hodei job cancel {job_id}).",
                job_status=job.state.lower(),
            )
        for schedule in tx.rows("read_schedules_of_job", job_id=job_id):
            raise Conflict(
                f"The schedule {schedule.id} fires it: delete that first (hodei schedule delete {schedule.id})."
            )
        tx.execute("schedule_secrets_forget", job_id=job_id)
        tx.record("job", job_id, "JobDeleted", {"name": job.name, "state": job.state}, actor=actor)
        tx.execute("log_chunks_forget", job_id=job_id)
        files = tx.rows("log_files_forget", job_id=job_id)
        tx.execute("secrets_forget", owner_id=job_id)
        tx.execute("job_delete", id=job_id)
        tx.after_commit(lambda: _delete_files(files))


def _delete_files(files: list[Row]) -> None:
    for file in files:
        delete_exported(file)
