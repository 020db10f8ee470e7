"""Firing: the one way from a time to a job, for the clock and for who asks for one now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hodei.domain.job import JobSpec
from hodei.domain.schedule import Act, FiringKind, FiringOutcome, Overlap, act
from hodei.domain.states import JOB_ACTIVE
from hodei.errors import InvalidInput
from hodei.ports import Platform
from hodei.services.cancel import request_cancel
from hodei.services.idempotency import RequestKey, once
from hodei.services.schedules.read import firing_view, no_schedule
from hodei.services.submit import NewJob, store_jobs
from hodei.storage.transaction import Row, Transaction

NO_COMMAND = "The definition has no command: give the schedule one, or schedule a job that has one."
NO_SECRETS = "The definition's secrets are not there any more: delete the schedule, and make one of a job that has them."
STILL_GOING = "The run before it is still going (overlap: skip)."
TOO_MANY = "As many firings wait already as may (overlap: queue)."


def trigger_schedule(
    platform: Platform, schedule_id: UUID, *, actor: str, key: RequestKey | None = None
) -> dict[str, Any]:
    """Fire now, also when it is paused or has ended; its overlap holds for this too. Returns the firing. Raises NotFound.

    With ``key``, a request that is sent again gets the first answer and makes no second job.
    """
    with platform.database.begin() as tx:
        return once(tx, key, lambda: _trigger(platform, tx, schedule_id, actor))


def _trigger(platform: Platform, tx: Transaction, schedule_id: UUID, actor: str) -> dict[str, Any]:
    schedule = tx.row("schedule_lock", id=schedule_id)
    if schedule is None:
        raise no_schedule(schedule_id)
    now: datetime = tx.scalar("now")
    if (
        now.microsecond % 1000 == 0
    ):  # nominal times are whole milliseconds: no time of its own is taken from it
        now += timedelta(microseconds=1)
    fired = fire(platform, tx, schedule, now, kind=FiringKind.TRIGGER, actor=actor)
    assert fired is not None
    return firing_view(fired)


def fire(
    platform: Platform, tx: Transaction, schedule: Row, time: datetime, *, kind: FiringKind, actor: str
) -> Row | None:
    """Make this time's job, or skip it for a reason that its event gives; None when it has fired before.

    The caller holds the schedule's row.
    """
    if tx.row("schedule_has_fired", id=schedule.id, scheduled_for=time) is not None:
        return None
    definition = tx.row("read_job", id=schedule.job_id)
    assert definition is not None  # it goes only together with its schedules
    spec = _spec(JobSpec.from_json(definition.spec), schedule.command)
    reason = _reason_not_to(tx, schedule, spec)
    overlap = Overlap(schedule.overlap)
    live = [] if overlap is Overlap.ALLOW else tx.rows("schedule_live_jobs", id=schedule.id)
    way = act(overlap, live=len(live), waiting=sum(job.held for job in live))
    if reason is None and way is Act.SKIP:
        reason = TOO_MANY if overlap is Overlap.QUEUE else STILL_GOING
    if reason is not None:
        return _skip(tx, schedule, time, reason, kind=kind, actor=actor)
    new = NewJob(
        name=definition.name,
        spec=spec,
        priority=definition.priority,
        labels=definition.labels,
        pipeline_id=definition.pipeline_id,
        held=way is not Act.START,
        schedule_id=schedule.id,
        scheduled_for=time,
    )
    try:
        [job] = store_jobs(platform, tx, [new], actor=actor, request_id=None)
    except InvalidInput as error:
        return _skip(tx, schedule, time, error.message, kind=kind, actor=actor)
    if spec.secret_names:
        tx.execute("secrets_copy", from_id=schedule.id, to_id=job["id"])
    waits = way is Act.WAIT or (way is Act.REPLACE and _replace(platform, tx, live, job["id"], actor))
    firing = _note(tx, schedule, time, kind=kind, outcome=FiringOutcome.FIRED, job_id=job["id"])
    payload = {
        "scheduled_for": time.isoformat(),
        "kind": kind.value,
        "job_id": str(job["id"]),
        "waits": waits,
    }
    tx.record("schedule", schedule.id, "ScheduleFired", payload, actor=actor)
    return Row(firing | {"job_state": "PENDING", "job_held": waits})


def _spec(spec: JobSpec, command: str | None) -> JobSpec:
    """The definition with the schedule's command in place of its own."""
    return spec if command is None else replace(spec, command=command, script=None, args=None)


def _reason_not_to(tx: Transaction, schedule: Row, spec: JobSpec) -> str | None:
    if spec.is_held:
        return NO_COMMAND
    there = {row.name for row in tx.rows("secrets_of", owner_id=schedule.id)} if spec.secret_names else set()
    return NO_SECRETS if set(spec.secret_names) - there else None


def _replace(platform: Platform, tx: Transaction, live: list[Row], job_id: UUID, actor: str) -> bool:
    """Cancel what is going; True when the new job has to wait for the end of any of it, else it goes into the queue."""
    ending = False
    for job in live:
        locked = tx.row("job_lock", id=job.id)
        if locked is not None:
            request_cancel(platform, tx, locked, actor=actor)
            ending |= locked.state in JOB_ACTIVE
    if not ending:
        tx.execute("job_release_if_held", id=job_id)
    return ending


def _skip(
    tx: Transaction, schedule: Row, time: datetime, reason: str, *, kind: FiringKind, actor: str
) -> Row:
    firing = _note(tx, schedule, time, kind=kind, outcome=FiringOutcome.SKIPPED, reason=reason)
    payload = {"scheduled_for": time.isoformat(), "kind": kind.value, "reason": reason}
    tx.record("schedule", schedule.id, "ScheduleFiringSkipped", payload, actor=actor)
    return firing


def _note(
    tx: Transaction,
    schedule: Row,
    time: datetime,
    *,
    kind: FiringKind,
    outcome: FiringOutcome,
    reason: str | None = None,
    job_id: UUID | None = None,
) -> Row:
    firing = tx.row(
        "schedule_firing_insert",
        schedule_id=schedule.id,
        scheduled_for=time,
        kind=kind.value,
        outcome=outcome.value,
        reason=reason,
        job_id=job_id,
    )
    assert firing is not None  # its row is held by who fires it, and it was looked for
    return firing
