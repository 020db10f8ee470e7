"""What schedules have to do with where a job is, in words."""

from __future__ import annotations

from hodei.domain.schedule import ScheduleState
from hodei.storage.transaction import Row, Transaction


def of_a_firing(job: Row) -> list[str]:
    """For which time which schedule made it."""
    if job.schedule_id is None:
        return []
    return [f"Schedule {job.schedule_id} made it for {job.scheduled_for:%Y-%m-%d %H:%M:%S} UTC."]


def of_a_held_job(tx: Transaction, job: Row) -> tuple[str, list[str]]:
    """What a job outside the queue waits for: a sentence, and details."""
    if job.schedule_id is not None:
        before = tx.rows(
            "read_jobs_before_in_schedule", schedule_id=job.schedule_id, scheduled_for=job.scheduled_for
        )
        return (
            "It waits for the schedule's runs before it: they must not overlap.",
            [f"Before it: job {row.id}, which is {row.state}." for row in before],
        )
    summary = "It is a definition without a command: it waits to be executed or scheduled."
    return summary, [_fires_it(row) for row in tx.rows("read_schedules_of_job", job_id=job.id)]


def _fires_it(schedule: Row) -> str:
    if schedule.state == ScheduleState.PAUSED:
        return f"Schedule {schedule.id} ({schedule.name}) fires it, and is paused."
    return (
        f"Schedule {schedule.id} ({schedule.name}) fires it next at {schedule.next_at:%Y-%m-%d %H:%M:%S} UTC."
    )
