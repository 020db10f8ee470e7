"""Looking at schedules: what they are, when they fire next, and what their times came to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from hodei.domain.schedule import FiringOutcome, ScheduleState
from hodei.errors import NotFound
from hodei.ports import Platform
from hodei.services.paging import Page, decode, page_of
from hodei.services.schedules.times import describe, read_zone, times_of
from hodei.storage.transaction import Row

MAX_UPCOMING = 100
PATH = "/api/v1/scheduled"


def no_schedule(schedule_id: UUID) -> NotFound:
    """The error for an id that names none."""
    return NotFound(f"There is no schedule {schedule_id}. List them with: hodei schedule list")


def schedule_view(row: Row) -> dict[str, Any]:
    """A schedule in the shape of ``docs/reference/http.md``."""
    base = f"{PATH}/{row.id}"
    same = (
        *("id", "name", "job_id", "command", "cron", "schedule_time", "timezone", "overlap", "catch_up"),
        *("catch_up_limit", "jitter_s", "start_at", "end_at", "pause_after_failures", "failures"),
        *("next_at", "last_at", "created_at", "updated_at"),
    )
    return {name: row[name] for name in same} | {
        "status": ScheduleState(row.state).word,
        "reason": row.state_reason,
        "description": describe(row),
        "links": {
            "self": base,
            "job": f"/api/v1/jobs/{row.job_id}",
            "upcoming": f"{base}/upcoming",
            "firings": f"{base}/firings",
        },
    }


def firing_view(row: Row) -> dict[str, Any]:
    """What a time came to. ``waiting``: its job is held until those before it have ended."""
    outcome = row.outcome
    if outcome == FiringOutcome.FIRED and row.get("job_state") == "PENDING" and row.get("job_held"):
        outcome = "waiting"
    job_state = row.get("job_state")
    return {name: row[name] for name in ("schedule_id", "scheduled_for", "kind", "reason", "job_id")} | {
        "outcome": outcome,
        "job_status": None if job_state is None else job_state.lower(),
        "created_at": row.created_at,
    }


def get_schedule(platform: Platform, schedule_id: UUID) -> dict[str, Any]:
    """One schedule. Raises NotFound."""
    return schedule_view(_found(platform, schedule_id))


def list_schedules(
    platform: Platform,
    *,
    status: str | None = None,
    job_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """A page of schedules, newest first."""
    before_at, before_id = decode(cursor)
    state = next((state.value for state in ScheduleState if state.word == status), None)
    with platform.database.begin() as tx:
        rows = tx.rows(
            "read_schedules",
            id=None,
            state=state,
            job_id=job_id,
            before_at=before_at,
            before_id=before_id,
            limit=limit + 1,
        )
    return page_of(rows, limit, schedule_view, at="created_at")


def list_firings(
    platform: Platform, schedule_id: UUID, *, cursor: str | None = None, limit: int = 50
) -> Page:
    """A page of what the schedule's times came to, the latest first. Raises NotFound."""
    _found(platform, schedule_id)
    before_at, _ = decode(cursor)
    with platform.database.begin() as tx:
        rows = tx.rows("read_schedule_firings", id=schedule_id, before_at=before_at, limit=limit + 1)
    return page_of(rows, limit, firing_view, at="scheduled_for")


def list_upcoming(platform: Platform, schedule_id: UUID, *, count: int = 10) -> list[dict[str, Any]]:
    """The next times that the schedule names, whether or not it is paused. Raises NotFound."""
    row = _found(platform, schedule_id)
    with platform.database.glance() as tx:
        now: datetime = tx.scalar("now")
    return upcoming_view(times_of(row, now), row.timezone, count=count)


def upcoming_view(times: Iterator[datetime], zone: str, *, count: int) -> list[dict[str, Any]]:
    """Times in UTC, and as a clock in the schedule's zone shows them."""
    local = read_zone(zone)
    return [
        {"scheduled_for": time, "local": time.astimezone(local).isoformat(timespec="seconds")}
        for time in islice(times, min(count, MAX_UPCOMING))
    ]


def _found(platform: Platform, schedule_id: UUID) -> Row:
    with platform.database.glance() as tx:
        row = tx.row(
            "read_schedules", id=schedule_id, state=None, job_id=None, before_at=None, before_id=None, limit=1
        )
    if row is None:
        raise no_schedule(schedule_id)
    return row
