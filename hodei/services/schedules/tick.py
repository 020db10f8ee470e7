"""What the clock does for schedules. Any number of clocks may: who works on one holds its row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import structlog

from hodei.domain.schedule import (
    CatchUp,
    Chosen,
    FiringKind,
    Overlap,
    ScheduleState,
    choose,
    due_at,
    failures_after,
)
from hodei.errors import InvalidInput
from hodei.ports import Platform
from hodei.services.schedules.change import end, pause
from hodei.services.schedules.fire import fire
from hodei.services.schedules.times import MOMENT, times_of
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

BATCH = 100
ACTOR = "clock"


def attend_schedules(platform: Platform) -> int:
    """Fire what is due, let go what waited, count what ended; each schedule in a transaction of its own.

    Answers how many were attended to. One that fails holds up no other, and is tried again at the next round.
    """
    seen: list[UUID] = []
    while True:
        with platform.database.begin() as tx:
            found = [row.id for row in tx.rows("schedules_to_attend", limit=BATCH, seen=seen)]
        for schedule_id in found:
            try:
                _attend(platform, schedule_id)
            except InvalidInput as error:
                _cannot(platform, schedule_id, error.message)
            except Exception:
                log.exception("schedule.failed", schedule_id=str(schedule_id))
        seen += found
        if len(found) < BATCH:
            return len(seen)


def _attend(platform: Platform, schedule_id: UUID) -> None:
    with platform.database.begin() as tx:
        schedule = tx.row("schedule_lock_if_free", id=schedule_id)
        if schedule is None:
            return
        paused = _count(tx, schedule)
        _let_go(platform, tx, schedule)
        now: datetime = tx.scalar("now")
        if not paused and schedule.state == ScheduleState.ACTIVE and schedule.next_due_at <= now:
            _fire_due(platform, tx, schedule, now)
        tx.after_commit(platform.courier.relay)


def _cannot(platform: Platform, schedule_id: UUID, reason: str) -> None:
    """Its times cannot be read any more (a zone that went with an update): it is paused, with the reason."""
    with platform.database.begin() as tx:
        schedule = tx.row("schedule_lock", id=schedule_id)
        if schedule is not None:
            pause(tx, schedule, reason=reason, actor=ACTOR)


def _count(tx: Transaction, schedule: Row) -> bool:
    """Count the runs that ended since the last look; True when it was paused for its failures."""
    ended = tx.rows("schedule_firings_settle", id=schedule.id)
    failures = failures_after(schedule.failures, [row.state for row in ended])
    if failures != schedule.failures:
        tx.execute("schedule_set_failures", id=schedule.id, failures=failures)
    most = schedule.pause_after_failures
    failed = any(row.state in ("FAILED", "TIMEOUT") for row in ended)
    if most is None or failures < most or not failed or schedule.state != ScheduleState.ACTIVE:
        return False
    times = "once" if failures == 1 else f"{failures} times in a row"
    pause(tx, schedule, reason=f"It was paused because its run failed {times}.", actor=ACTOR)
    return True


def _let_go(platform: Platform, tx: Transaction, schedule: Row) -> None:
    """The oldest run that waits goes into the queue when none before it is left; all of them once they may overlap."""
    live = tx.rows("schedule_live_jobs", id=schedule.id)
    waiting = [job for job in live if job.held]
    may_overlap = schedule.overlap == Overlap.ALLOW
    if not may_overlap and len(waiting) < len(live):
        return
    for job in waiting if may_overlap else waiting[:1]:
        if tx.execute("job_release_if_held", id=job.id):
            tx.after_commit(platform.courier.look)


def _fire_due(platform: Platform, tx: Transaction, schedule: Row, now: datetime) -> None:
    times = times_of(schedule, schedule.next_at - MOMENT)
    following: list[datetime] = []

    def due() -> Iterator[datetime]:
        for time in times:
            if due_at(schedule.id, time, schedule.jitter_s) > now:
                following.append(time)
                return
            yield time

    chosen = choose(
        due(),
        schedule_id=schedule.id,
        jitter_s=schedule.jitter_s,
        now=now,
        catch_up=CatchUp(schedule.catch_up),
        limit=schedule.catch_up_limit,
    )
    if chosen.missed:
        _tell_missed(tx, schedule, chosen)
    firings = [fire(platform, tx, schedule, time, kind=FiringKind.TIME, actor=ACTOR) for time in chosen.fire]
    fired = [firing.scheduled_for for firing in firings if firing is not None and firing.job_id is not None]
    last_at = fired[-1] if fired else None
    if not following:
        end(tx, schedule, last_at=last_at, reason=_reason_of_end(schedule, chosen), actor=ACTOR)
        return
    next_due_at = due_at(schedule.id, following[0], schedule.jitter_s)
    tx.execute(
        "schedule_set_active", id=schedule.id, next_at=following[0], next_due_at=next_due_at, last_at=last_at
    )


def _reason_of_end(schedule: Row, chosen: Chosen) -> str:
    if schedule.cron is not None:
        return "No further time comes before its end."
    return (
        "Its time has come."
        if chosen.fire
        else "Its time was missed, and it makes up for none (catch_up: none)."
    )


def _tell_missed(tx: Transaction, schedule: Row, chosen: Chosen) -> None:
    assert chosen.first_missed is not None and chosen.last_missed is not None
    payload = {
        "count": chosen.missed,
        "first": chosen.first_missed.isoformat(),
        "last": chosen.last_missed.isoformat(),
        "catch_up": schedule.catch_up,
    }
    tx.record("schedule", schedule.id, "ScheduleTimesMissed", payload, actor=ACTOR)
