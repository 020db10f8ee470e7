"""Making schedules, and saying what is wrong with one before it is made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hodei.domain.ids import new_id
from hodei.domain.job import JobSpec
from hodei.domain.schedule import LATE_AFTER_S, CatchUp, Overlap, due_at
from hodei.domain.schedule_times import HORIZON_YEARS
from hodei.errors import Conflict, InvalidInput, NotFound
from hodei.ports import Platform
from hodei.services.idempotency import RequestKey, once
from hodei.services.schedules.read import schedule_view, upcoming_view
from hodei.services.schedules.times import (
    MOMENT,
    describe,
    read_cron,
    read_moment,
    read_zone,
    times_of,
)
from hodei.storage.transaction import Row, Transaction

PREVIEW = 5
"""How many times a validation shows."""


@dataclass(frozen=True, kw_only=True)
class NewSchedule:
    """A schedule as people write it: exactly one of ``cron`` and ``schedule_time``; moments as text, read in ``timezone``.

    ``command`` None: the definition's own.
    """

    job_id: UUID
    name: str | None = None
    command: str | None = None
    cron: str | None = None
    schedule_time: str | None = None
    timezone: str = "UTC"
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LAST
    catch_up_limit: int = 100
    jitter_s: float = 0.0
    start_at: str | None = None
    end_at: str | None = None
    pause_after_failures: int | None = None


def create_schedule(
    platform: Platform, new: NewSchedule, *, actor: str, key: RequestKey | None = None
) -> dict[str, Any]:
    """Store a schedule of this job's definition; it fires from now on.

    It takes a copy of the definition's secrets, encrypted as they are, and keeps it as long as it lives. With ``key``, a
    request that is sent again gets the first answer. Raises NotFound, InvalidInput, and Conflict for a job whose secrets
    were forgotten when it ended.
    """
    with platform.database.begin() as tx:
        return once(tx, key, lambda: _create(tx, new, actor))


def _create(tx: Transaction, new: NewSchedule, actor: str) -> dict[str, Any]:
    timing = read_timing(
        {name: getattr(new, name) for name in ("cron", "schedule_time", "timezone", "start_at", "end_at")}
    )
    job = tx.row("job_lock", id=new.job_id)
    if job is None:
        raise NotFound(f"There is no job {new.job_id}. List them with: hodei job list", field="job_id")
    now: datetime = tx.scalar("now")
    next_at = first_time(timing, now)
    schedule_id = new_id()
    if JobSpec.from_json(job.spec).secret_names and not tx.execute(
        "secrets_copy", from_id=job.id, to_id=schedule_id
    ):
        raise Conflict(
            "The job's secrets were forgotten when it ended: schedule a job that is held or still going, or submit it again."
        )
    tx.execute(
        "schedule_insert",
        id=schedule_id,
        name=new.name or job.name,
        job_id=job.id,
        command=new.command,
        **timing,
        overlap=new.overlap.value,
        catch_up=new.catch_up.value,
        catch_up_limit=new.catch_up_limit,
        jitter_s=new.jitter_s,
        pause_after_failures=new.pause_after_failures,
        next_at=next_at,
        next_due_at=due_at(schedule_id, next_at, new.jitter_s),
    )
    row = tx.row("schedule_lock", id=schedule_id)
    assert row is not None
    tx.record("schedule", schedule_id, "ScheduleCreated", told_of(row), actor=actor)
    return schedule_view(row)


def read_timing(given: dict[str, Any]) -> dict[str, Any]:
    """When a schedule fires, as it is stored; from texts, or from moments that are stored. Raises InvalidInput."""
    zone = read_zone(given["timezone"])
    timing = dict(given)
    for name in ("schedule_time", "start_at", "end_at"):
        if isinstance(given[name], str):
            timing[name] = read_moment(given[name], zone, name)
    if (timing["cron"] is None) == (timing["schedule_time"] is None):
        raise InvalidInput("Give either cron or schedule_time.", field="cron")
    if timing["cron"] is not None:
        read_cron(timing["cron"])
        if timing["start_at"] and timing["end_at"] and timing["end_at"] <= timing["start_at"]:
            raise InvalidInput("end_at must be later than start_at.", field="end_at")
        return timing
    for name in ("start_at", "end_at"):
        if timing[name] is not None:
            raise InvalidInput(f"{name} is for schedules with cron: schedule_time is once.", field=name)
    return timing


def first_time(timing: dict[str, Any], now: datetime) -> datetime:
    """When a schedule that is made or changed now fires first. Raises InvalidInput when it never does."""
    at = timing["schedule_time"]
    if at is not None:
        if (now - at).total_seconds() > LATE_AFTER_S:
            raise InvalidInput(
                f"schedule_time is in the past: {at:%Y-%m-%d %H:%M:%S} UTC.", field="schedule_time"
            )
        return at
    found = next(times_of(timing, now), None)
    if found is None and timing["end_at"] is not None:
        raise InvalidInput("No time that cron names comes before end_at.", field="end_at")
    if found is None:
        raise InvalidInput(f"cron names no time within the next {HORIZON_YEARS} years.", field="cron")
    return found


def validate(platform: Platform, given: dict[str, Any]) -> dict[str, Any]:
    """Whether these times would do, in words, and the first of them. Never raises for what is wrong with them."""
    with platform.database.glance() as tx:
        now: datetime = tx.scalar("now")
    try:
        timing = read_timing(given)
        first = first_time(timing, now)
    except InvalidInput as error:
        return {"valid": False, "message": error.message, "field": error.field, "upcoming": []}
    upcoming = upcoming_view(times_of(timing, first - MOMENT), timing["timezone"], count=PREVIEW)
    return {"valid": True, "message": f"{describe(timing)}.", "field": None, "upcoming": upcoming}


def told_of(row: Row) -> dict[str, Any]:
    """What an event tells of a schedule."""
    names = ("name", "job_id", "cron", "schedule_time", "timezone", "overlap", "catch_up", "next_at")
    return {name: _told(row[name]) for name in names if row[name] is not None}


def _told(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
