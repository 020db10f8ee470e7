"""Workers as people manage them: making one by hand, letting it leave (drain), ending it (stop)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from hodei.domain.ids import new_id, saga_id
from hodei.domain.job import PROVISION_S, JobSpec
from hodei.domain.self_hosted import SELF_HOSTED
from hodei.domain.states import WorkerState
from hodei.errors import Conflict, InvalidInput, NotFound
from hodei.ports import Platform
from hodei.sagas.registry import engine
from hodei.sagas.release import destroy_worker
from hodei.services.dispatch import TAKES_WORK, room_at, takes_auto
from hodei.services.idempotency import RequestKey, answer_anew, once
from hodei.services.workers import get_worker, worker_view
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

MANY_JOBS = 0
IDLE_S = 600.0
"""After so long without a job a worker that was made by hand is ended, unless it was said otherwise."""
LOOK_EVERY_S = 1.0
"""How often somebody who waits for a worker looks when nobody wakes him."""
LEAVES_WITHIN_S = 15.0
"""How long an agent that was told to stop may take after its job's grace: for KILL, the log, the result and its goodbye."""
BATCH = 100
OVER = frozenset({WorkerState.TERMINATING, WorkerState.TERMINATED})
NOT_CONNECTED = frozenset({WorkerState.CREATING, WorkerState.CONNECTING})


@dataclass(frozen=True, kw_only=True)
class NewWorker:
    """A worker to be made by hand: it takes jobs, one after the other, until it had none for ``idle_s`` seconds.

    ``provider`` None: the default one, which is what ``auto`` would choose now, else any that takes work.
    """

    worker_type: str
    provider: str | None = None
    image: str | None = None
    idle_s: float = IDLE_S


def start_worker(
    platform: Platform, new: NewWorker, *, actor: str, wait_s: float, key: RequestKey | None = None
) -> dict[str, Any]:
    """Have the worker made, and answer it when it is connected, or as it is after ``wait_s``; holds no connection meanwhile.

    Raises InvalidInput for a provider that does not exist or runs no images; Conflict when no provider can take a worker now,
    or when it could not be made, with the reason.
    """
    with platform.database.begin() as tx:
        first = once(tx, key, lambda: _provision(platform, tx, new, actor))
    if WorkerState(first["state"]) not in NOT_CONNECTED:
        return first  # asked before, with the same key
    worker = _connected(platform, UUID(str(first["id"])), wait_s)
    with platform.database.begin() as tx:
        answer_anew(tx, key, worker)
    return worker


def _provision(platform: Platform, tx: Transaction, new: NewWorker, actor: str) -> dict[str, Any]:
    provider = _with_room(platform, tx, new)
    worker_id = new_id()
    now = tx.scalar("now")
    engine(platform).start(
        tx,
        "PROVISIONING",
        saga_id=saga_id("PROVISIONING", worker_id, 0),
        subject_id=worker_id,
        correlation_id=worker_id,
        actor=actor,
        metadata={
            "provider_id": str(provider.id),
            "worker_id": str(worker_id),
            "worker_type": new.worker_type,
            "max_jobs": MANY_JOBS,
            "idle_s": new.idle_s,
            "image": new.image,
            "started_at": now.isoformat(),
            "deadline": (now + timedelta(seconds=PROVISION_S)).isoformat(),
        },
    )
    saga = tx.row("read_provisioning_of_worker", id=worker_id)
    assert saga is not None
    return _promised(tx, worker_id, saga)


def look_at(platform: Platform, worker_id: UUID) -> dict[str, Any]:
    """The worker, also before its saga has written its row, or when it never did. Raises NotFound."""
    try:
        return get_worker(platform, worker_id)
    except NotFound:
        with platform.database.begin() as tx:
            saga = tx.row("read_provisioning_of_worker", id=worker_id)
            if saga is None:
                raise
            return _promised(tx, worker_id, saga)


def _promised(tx: Transaction, worker_id: UUID, saga: Row) -> dict[str, Any]:
    """A worker that has no row: its saga is about to write it, or was undone before."""
    provider = tx.row("provider_find", key=saga.metadata["provider_id"])
    never = saga.error_message is not None
    unknown = (
        "provider_resource_id",
        "current_job_id",
        "reserved_for",
        "last_job_id",
        "last_heartbeat",
        "registered_at",
    )
    known: dict[str, Any] = {
        "id": worker_id,
        "worker_type": saga.metadata["worker_type"],
        "provider_id": provider.id if provider else None,
        "provider_type": provider.provider_type if provider else None,
        "state": (WorkerState.TERMINATED if never else WorkerState.CREATING).value,
        "usage": {},
        "created_at": saga.started_at,
        "updated_at": saga.completed_at or saga.started_at,
        "terminated_at": saga.completed_at,
        "termination_reason": saga.error_message,
    }
    return worker_view(Row(dict.fromkeys(unknown) | known))


def _with_room(platform: Platform, tx: Transaction, new: NewWorker) -> Row:
    """The provider that takes it, held, with a place free. Raises InvalidInput, Conflict."""
    if not platform.settings.provisioning_enabled:
        raise Conflict("No new workers are made (HODEI_PROVISIONING_ENABLED=0).")
    reasons = []
    for candidate in _candidates(platform, tx.rows("provider_list"), new):
        provider = tx.row("provider_lock", id=candidate.id)
        if provider is None:
            continue
        if provider.status not in TAKES_WORK:
            reasons.append(f"{provider.name} is {provider.status}: {provider.status_reason}")
        elif room_at(platform, tx, provider) < 1:
            reasons.append(
                f"{provider.name} has no room: {provider.places_taken} of {provider.max_workers} workers"
            )
        else:
            return provider
    why = "; ".join(reasons) or "there is none"
    raise Conflict(f"No provider can take a worker now: {why}.")


def _candidates(platform: Platform, rows: list[Row], new: NewWorker) -> list[Row]:
    rows = [row for row in rows if row.provider_type != SELF_HOSTED]
    if new.provider == SELF_HOSTED:
        raise InvalidInput(
            "Self-hosted workers are started by hand. Register one: hodei worker register", field="provider"
        )
    if new.provider is None:
        usual = [row for row in rows if takes_auto(platform, row, rows)]
        found = usual if any(row.status in TAKES_WORK for row in usual) else rows
        return [row for row in found if new.image is None or row.capabilities.get("images")]
    named = [row for row in rows if new.provider in (row.name, str(row.id))]
    if not named:
        known = ", ".join(row.name for row in rows) or "none"
        raise InvalidInput(f"There is no provider {new.provider!r}; there are: {known}.", field="provider")
    if new.image is not None and named[0].capabilities and not named[0].capabilities.get("images"):
        raise InvalidInput(f"Provider {named[0].name} runs no images. Leave image out.", field="image")
    return named


def _connected(platform: Platform, worker_id: UUID, wait_s: float) -> dict[str, Any]:
    """The worker when its inbox is open, or as it is when the time is over. Raises Conflict when it will never be."""
    give_up = time.monotonic() + wait_s
    with platform.wakeups.listen(f"worker:{worker_id}") as ear:
        while True:
            with platform.database.glance() as tx:
                saga = tx.row("read_provisioning_of_worker", id=worker_id)
                worker = tx.row("worker_get", id=worker_id)
            assert saga is not None
            if saga.error_message is not None or (worker is not None and worker.state in OVER):
                code = f"{saga.error_code}: " if saga.error_code else ""
                ended = worker.termination_reason if worker is not None else None
                raise Conflict(
                    f"The worker {worker_id} did not come to be: {code}{saga.error_message or ended}",
                    worker_id=str(worker_id),
                )
            remaining = give_up - time.monotonic()
            there = worker is not None and worker.state not in NOT_CONNECTED
            if there or remaining <= 0 or platform.wakeups.closing:
                break
            ear.wait(min(remaining, LOOK_EVERY_S))
    return look_at(platform, worker_id)


def drain_worker(platform: Platform, worker_id: UUID, *, actor: str) -> dict[str, Any]:
    """The worker takes no new job, and is ended when it has none; one that has none is ended now.

    One that is about to get a job does that one first. Asked again, also of one that has ended, it answers the same. Raises
    NotFound, and Conflict for one whose making has only just begun.
    """
    with platform.database.begin() as tx:
        worker = _lock(tx, worker_id)
        if worker.state in OVER or worker.state == WorkerState.DRAINING:
            return worker_view(worker)
        tx.record("worker", worker_id, "WorkerDrainRequested", {"state": worker.state}, actor=actor)
        if worker.state == WorkerState.BUSY:
            tx.execute("worker_set_draining_if_busy", id=worker_id)
        elif worker.reserved_for is not None:
            tx.execute("worker_set_last_job", id=worker_id)
        else:
            _end(platform, tx, worker, "drained by an operator")
    return get_worker(platform, worker_id)


def stop_worker(platform: Platform, worker_id: UUID, *, actor: str) -> dict[str, Any]:
    """The worker ends now. What runs on it gets TERM, its grace, KILL; its log is kept, and the job is tried again elsewhere.

    An agent that does not answer is ended by its provider. Asked again, also of one that has ended, it answers the same. Raises
    NotFound, and Conflict for one whose making has only just begun.
    """
    with platform.database.begin() as tx:
        worker = _lock(tx, worker_id)
        if worker.state in OVER:
            return worker_view(worker)
        tx.record("worker", worker_id, "WorkerStopRequested", {"state": worker.state}, actor=actor)
        if worker.current_job_id is not None:
            grace_s = _grace_s(tx, worker.current_job_id)
            tx.execute("worker_set_draining_if_busy", id=worker_id)
            tx.execute("worker_end_by_force_after", id=worker_id, patience_s=grace_s + LEAVES_WITHIN_S)
            tx.execute("message_send", worker_id=worker_id, kind="shutdown", payload={"grace_s": grace_s})
            tx.after_commit(lambda: platform.wakeups.wake(f"inbox:{worker_id}"))
        else:
            _end(platform, tx, worker, "stopped by an operator")
    return get_worker(platform, worker_id)


def _lock(tx: Transaction, worker_id: UUID) -> Row:
    """The worker, held, after the saga that makes it was told to look at it soon, whatever messages get lost."""
    seen = tx.row("worker_get", id=worker_id)
    if seen is not None and seen.state in NOT_CONNECTED:
        tx.execute("sagas_hurry_of_job", job_id=seen.reserved_for or worker_id, types=["PROVISIONING"])
    worker = tx.row("worker_lock", id=worker_id)
    if worker is not None:
        return worker
    if tx.row("read_provisioning_of_worker", id=worker_id) is not None:
        raise Conflict("The making of this worker has only just begun. Ask again in a moment.")
    raise NotFound(f"There is no worker {worker_id}. List them with: hodei worker list")


def _end(platform: Platform, tx: Transaction, worker: Row, reason: str) -> None:
    destroy_worker(platform, tx, worker.id, reason=reason)
    if worker.provisioning_saga_id is not None:
        engine(platform).wake(tx, "PROVISIONING", worker.provisioning_saga_id, "PublishProvisionedEvent")


def _grace_s(tx: Transaction, job_id: UUID) -> float:
    job = tx.row("read_job", id=job_id)
    return 0.0 if job is None else JobSpec.from_json(job.spec).grace_s


def end_idle(platform: Platform) -> int:
    """End the workers that had no job for longer than they may, and those that were told to stop and did not."""
    with platform.database.begin() as tx:
        idle = tx.rows("workers_idle_too_long", limit=BATCH)
        for worker in idle:
            destroy_worker(platform, tx, worker.id, reason=f"it had no job for {worker.idle_s:g} s")
        stuck = tx.rows("workers_that_do_not_leave", limit=BATCH)
        for worker in stuck:
            destroy_worker(platform, tx, worker.id, reason="stopped by an operator; its agent did not answer")
    return len(idle) + len(stuck)
