"""Schedules of a :class:`support.core.Core`, and what a test does with their times."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from hodei.domain.job import JobSpec
from hodei.services.schedules.create import NewSchedule, create_schedule
from hodei.services.schedules.tick import attend_schedules
from hodei.services.submit import NewJob, submit_job
from hodei.storage.transaction import Row
from support.core import Core
from support.waiting import until


def definition(
    core: Core, command: str | None = "true", *, secrets: dict[str, str] | None = None, **more: Any
) -> UUID:
    """A job outside the queue."""
    spec = JobSpec(
        command=command, provider=more.pop("provider", "a"), secret_names=tuple(secrets or ()), **more
    )
    new = NewJob(
        name="nightly", spec=spec, priority=3, labels={"team": "data"}, secrets=secrets or {}, held=True
    )
    return submit_job(core.platform, new, actor="test", request_id=None)["id"]


def schedule(core: Core, job_id: UUID | None = None, **more: Any) -> UUID:
    """A schedule of this definition, or of one of its own; each minute, when nothing else is said.

    It is made in the first part of a minute, so that no further time comes while the test goes on.
    """
    until(
        lambda: core.sql("SELECT extract(second FROM clock_timestamp()) < 40 AS early")[0].early,
        within_s=30,
        what="the next minute",
    )
    when = {} if "schedule_time" in more else {"cron": "* * * * *"}
    new = NewSchedule(job_id=job_id or definition(core), **(when | more))
    return create_schedule(core.platform, new, actor="test")["id"]


def row_of(core: Core, schedule_id: UUID) -> Row:
    return core.sql("SELECT * FROM hodei.schedules WHERE id = :id", id=schedule_id)[0]


def put_back(core: Core, schedule_id: UUID, minutes: int = 0) -> datetime:
    """As if the next time were the full minute that began so many minutes before this one; returns it."""
    then = "date_trunc('minute', clock_timestamp()) - make_interval(mins => :minutes)"
    return core.sql(
        f"UPDATE hodei.schedules SET next_at = {then}, next_due_at = {then} WHERE id = :id RETURNING next_at",
        minutes=minutes, id=schedule_id,
    )[0].next_at  # fmt: skip


def tick(core: Core) -> int:
    """What a clock does in one round."""
    return attend_schedules(core.platform)


def jobs_of(core: Core, schedule_id: UUID) -> list[Row]:
    return core.sql("SELECT * FROM jobs WHERE schedule_id = :id ORDER BY scheduled_for", id=schedule_id)


def states(core: Core, schedule_id: UUID) -> list[str]:
    """The states of its jobs in the order of their times; of one that waits for those before it, ``held``."""
    return ["held" if job.held else job.state for job in jobs_of(core, schedule_id)]


def events(core: Core, schedule_id: UUID, kind: str) -> list[dict[str, Any]]:
    rows = core.sql(
        "SELECT payload FROM domain_events WHERE aggregate_id = :id AND event_type = :kind ORDER BY occurred_at",
        id=schedule_id, kind=kind,
    )  # fmt: skip
    return [row.payload for row in rows]


def end_job(core: Core, job_id: UUID, state: str = "SUCCEEDED") -> None:
    """As if it had run."""
    core.sql(
        "UPDATE jobs SET state = :state, held = false, completed_at = clock_timestamp() WHERE id = :id",
        id=job_id, state=state,
    )  # fmt: skip


def attend_without_end(database_url: str, folder: Path) -> None:
    """A clock's schedules loop without its lease, round after round; the whole of a process that is to be killed."""
    core = Core(database_url, folder)
    while True:
        attend_schedules(core.platform)
