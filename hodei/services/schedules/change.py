"""Changing, pausing, resuming and deleting schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from hodei.domain.schedule import ScheduleState, due_at
from hodei.errors import Conflict, InvalidInput
from hodei.ports import Platform
from hodei.services.schedules.create import first_time, read_timing, told_of
from hodei.services.schedules.read import no_schedule, schedule_view
from hodei.services.schedules.times import times_of
from hodei.storage.transaction import Row, Transaction

TIMING = ("cron", "schedule_time", "timezone", "start_at", "end_at")
RULES = ("name", "command", "overlap", "catch_up", "catch_up_limit", "jitter_s", "pause_after_failures")
ASKED = "Somebody paused it."


def change_schedule(
    platform: Platform, schedule_id: UUID, changes: dict[str, Any], *, actor: str
) -> dict[str, Any]:
    """Change what is named; ``status`` ``paused`` or ``scheduled`` pauses or resumes, which done again changes nothing.

    A change of its times counts from now: times that went by are not made up for. One that had ended fires again when its
    new times come. Raises NotFound, InvalidInput, and Conflict when one is resumed that has ended.
    """
    with platform.database.begin() as tx:
        row = _locked(tx, schedule_id)
        status = changes.pop("status", None)
        if changes:
            row = _change(tx, row, changes, actor)
        if status == ScheduleState.PAUSED.word:
            pause(tx, row, reason=ASKED, actor=actor)
        elif status is not None:
            _resume(tx, row, actor)
        return schedule_view(_locked(tx, schedule_id))


def delete_schedule(platform: Platform, schedule_id: UUID, *, actor: str) -> None:
    """Forget the schedule and its firings; the jobs that it made stay. Those that waited held are cancelled. Raises NotFound."""
    from hodei.services.cancel import request_cancel

    with platform.database.begin() as tx:
        row = _locked(tx, schedule_id)
        for job in tx.rows("schedule_live_jobs", id=row.id):
            locked = tx.row("job_lock", id=job.id) if job.held else None
            if locked is not None and locked.held:
                request_cancel(platform, tx, locked, actor=actor)
        tx.record("schedule", row.id, "ScheduleDeleted", {"name": row.name}, actor=actor)
        tx.execute("secrets_forget", owner_id=row.id)
        tx.execute("schedule_delete", id=row.id)
        tx.after_commit(platform.courier.relay)


def pause(tx: Transaction, row: Row, *, reason: str, actor: str) -> None:
    """Have it fire no more until it is resumed. The caller holds its row. One that is paused or has ended stays as it is."""
    if row.state != ScheduleState.ACTIVE:
        return
    state = ScheduleState.PAUSED.value
    tx.execute("schedule_set_stopped", id=row.id, state=state, reason=reason, last_at=None)
    tx.record("schedule", row.id, "SchedulePaused", {"reason": reason}, actor=actor)


def end(tx: Transaction, row: Row, *, last_at: datetime | None, reason: str, actor: str) -> None:
    """No further time comes. The caller holds its row."""
    state = ScheduleState.ENDED.value
    tx.execute("schedule_set_stopped", id=row.id, state=state, reason=reason, last_at=last_at)
    tx.record("schedule", row.id, "ScheduleEnded", {"reason": reason}, actor=actor)


def _locked(tx: Transaction, schedule_id: UUID) -> Row:
    row = tx.row("schedule_lock", id=schedule_id)
    if row is None:
        raise no_schedule(schedule_id)
    return row


def _change(tx: Transaction, row: Row, changes: dict[str, Any], actor: str) -> Row:
    given = {name: changes.get(name, row[name]) for name in TIMING}
    if "schedule_time" in changes and "cron" not in changes:
        given |= {"cron": None, "start_at": changes.get("start_at"), "end_at": changes.get("end_at")}
    elif "cron" in changes and "schedule_time" not in changes:
        given["schedule_time"] = None
    timing = read_timing(given)
    for name in ("name", "overlap", "catch_up", "catch_up_limit", "jitter_s"):
        if name in changes and changes[name] is None:
            raise InvalidInput(f"{name} cannot be null.", field=name)
    rules = {name: changes.get(name, row[name]) for name in RULES}
    changed = timing | rules
    tx.execute("schedule_change", id=row.id, **changed)
    if (
        any(row[name] != changed[name] for name in (*TIMING, "jitter_s"))
        and row.state != ScheduleState.PAUSED
    ):
        next_at = first_time(timing, tx.scalar("now"))
        _activate(tx, row.id, next_at, rules["jitter_s"])
    row = _locked(tx, row.id)
    payload = {"changed": sorted(changes)} | told_of(row)
    tx.record("schedule", row.id, "ScheduleChanged", payload, actor=actor)
    return row


def _resume(tx: Transaction, row: Row, actor: str) -> None:
    if row.state == ScheduleState.ACTIVE:
        return
    if row.state == ScheduleState.ENDED:
        raise Conflict(f"The schedule has ended: {row.state_reason} Give it another cron or schedule_time.")
    tx.execute("schedule_set_failures", id=row.id, failures=0)
    next_at = next(times_of(row, tx.scalar("now")), None)
    if next_at is None:
        end(tx, row, last_at=None, reason="Its last time went by while it was paused.", actor=actor)
        return
    _activate(tx, row.id, next_at, row.jitter_s)
    tx.record("schedule", row.id, "ScheduleResumed", {"next_at": next_at.isoformat()}, actor=actor)


def _activate(tx: Transaction, schedule_id: UUID, next_at: datetime, jitter_s: float) -> None:
    tx.execute(
        "schedule_set_active",
        id=schedule_id,
        next_at=next_at,
        next_due_at=due_at(schedule_id, next_at, jitter_s),
        last_at=None,
    )
