"""Dispatch: PENDING jobs, by priority then age, to a connected worker or to a provider that has room for one.

Any number of controllers may dispatch at once: a provider is dispatched to under the lock of its row, so its room is
counted once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from hodei.domain.ids import saga_id, worker_id
from hodei.domain.job import JobSpec
from hodei.domain.self_hosted import SELF_HOSTED, TYPE_LABEL
from hodei.ports import Platform
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.registry import engine
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

ACTOR = "dispatcher"
BATCH = 20
TAKES_WORK = ("ACTIVE", "DEGRADED")
"""The statuses in which a provider is given work; in all others it only brings to its end what it has."""


def look(platform: Platform) -> int:
    """Give out as many jobs as there is room for; return how many. Harmless at any time."""
    settings = platform.settings
    if not settings.job_controller_enabled:
        return 0
    with platform.meters.dispatch.time():
        return _look(platform)


def _look(platform: Platform) -> int:
    with platform.database.glance() as tx:
        providers = tx.rows("provider_list")
    given = 0
    for provider in providers:
        if provider.status not in TAKES_WORK:
            continue
        names = [provider.name] + (["auto"] if takes_auto(platform, provider, providers) else [])
        while True:
            now_given = _dispatch_to(platform, provider.id, names)
            given += now_given
            if now_given:
                platform.meters.dispatched.labels(provider.name).inc(now_given)
            if now_given < BATCH:
                break
    return given


def takes_auto(platform: Platform, provider: Row, providers: list[Row]) -> bool:
    """``auto`` never means process, but in dev mode when there is nothing else. Self-hosted workers are looked for by the
    type that a job requires."""
    if provider.provider_type == SELF_HOSTED:
        return False
    if provider.provider_type != "process":
        return True
    others = [
        row
        for row in providers
        if row.id != provider.id and row.status in TAKES_WORK and row.provider_type != SELF_HOSTED
    ]
    return platform.settings.dev_mode and not others


def _dispatch_to(platform: Platform, provider_id: UUID, names: list[str]) -> int:
    with platform.database.begin() as tx:
        provider = tx.row("provider_lock", id=provider_id)
        if provider is None or provider.status not in TAKES_WORK:
            return 0
        if provider.provider_type == SELF_HOSTED:
            return _give_to_self_hosted(platform, tx, provider)
        room = room_at(platform, tx, provider)
        given = 0
        lease_s = platform.settings.lease_over_s
        for job in tx.rows(
            "job_queue_head", names=names, labels=provider.labels, lease_s=lease_s, limit=BATCH
        ):
            if _give_to_idle_worker(platform, tx, job, provider):
                given += 1
            elif room > 0:
                _provision_for(platform, tx, job, provider)
                room -= 1
                given += 1
            else:
                break
        return given


def _give_to_self_hosted(platform: Platform, tx: Transaction, provider: Row) -> int:
    """Each connected one that is free gets the first job that asks for its type; none is made."""
    given = 0
    for worker in tx.rows("self_hosted_idle", provider_id=provider.id, limit=BATCH):
        job = tx.row(
            "job_queue_head_for_self_hosted",
            labels=provider.labels | {TYPE_LABEL: worker.worker_type},
            lease_s=platform.settings.lease_over_s,
        )
        if job is not None and tx.execute("worker_reserve", id=worker.id, job_id=job.id):
            start_execution(platform, tx, job, worker=worker.id, provider_id=provider.id)
            given += 1
    return given


def room_at(platform: Platform, tx: Transaction, provider: Row) -> int:
    """How many more workers may be made there now. The caller holds the provider's row, so that each place is promised once."""
    if not platform.settings.provisioning_enabled or provider.provider_type == SELF_HOSTED:
        return 0
    promised = tx.scalar("provider_places_promised", id=str(provider.id))
    return provider.max_workers - provider.places_taken - promised


def _give_to_idle_worker(platform: Platform, tx: Transaction, job: Row, provider: Row) -> bool:
    spec = JobSpec.from_json(job.spec)
    if spec.cpu is not None or spec.memory_bytes is not None:
        return False  # limits are a worker's own: one is made with them
    idle = tx.row("worker_find_idle", provider_id=provider.id, image=spec.image)
    if idle is None or not tx.execute("worker_reserve", id=idle.id, job_id=job.id):
        return False
    start_execution(platform, tx, job, worker=idle.id, provider_id=provider.id)
    return True


def _provision_for(platform: Platform, tx: Transaction, job: Row, provider: Row) -> None:
    spec = JobSpec.from_json(job.spec)
    attempt, attempt_try = job.attempts + 1, job.tries
    made = worker_id(job.id, attempt, attempt_try)
    if not tx.execute("job_set_scheduled_if_pending", id=job.id, provider_id=provider.id, worker_id=made):
        return
    if attempt_try > 0:
        wake_sagas_of_job(platform, tx, job.id, "RECOVERY")
    now = tx.scalar("now")
    metadata: dict[str, Any] = {
        "job_id": str(job.id),
        "provider_id": str(provider.id),
        "worker_id": str(made),
        "attempt": attempt,
        "image": spec.image,
        "cpu": spec.cpu,
        "memory_bytes": spec.memory_bytes,
        "lifetime_s": spec.lifetime_s,
        "started_at": now.isoformat(),
        "deadline": (now + timedelta(seconds=spec.timeouts.provision_s)).isoformat(),
    }
    engine(platform).start(
        tx,
        "PROVISIONING",
        saga_id=saga_id("PROVISIONING", job.id, attempt, attempt_try),
        subject_id=made,
        correlation_id=job.id,
        actor=ACTOR,
        metadata=metadata,
    )


def start_execution(
    platform: Platform, tx: Transaction, job: Row, *, worker: UUID, provider_id: UUID
) -> None:
    """Start the saga that runs the job's next attempt on this worker."""
    attempt = job.attempts + 1
    engine(platform).start(
        tx,
        "EXECUTION",
        saga_id=saga_id("EXECUTION", job.id, attempt, job.tries),
        subject_id=worker,
        correlation_id=job.id,
        actor=ACTOR,
        metadata={
            "job_id": str(job.id),
            "worker_id": str(worker),
            "provider_id": str(provider_id),
            "attempt": attempt,
        },
    )


def worker_is_ready(platform: Platform, tx: Transaction, worker: Row) -> None:
    """A worker's inbox has just been opened: give it the job that it was made for, or whatever waits.

    A worker without a job of its own is looked at by the dispatcher after the commit.
    """
    job = tx.row("job_lock", id=worker.reserved_for) if worker.reserved_for else None
    if job is not None and job.worker_id == worker.id:
        start_execution(platform, tx, job, worker=worker.id, provider_id=worker.provider_id)
    else:
        tx.after_commit(platform.courier.look)
    tx.after_commit(lambda: platform.wakeups.wake(f"worker:{worker.id}"))
    if worker.provisioning_saga_id is not None:
        engine(platform).wake(tx, "PROVISIONING", worker.provisioning_saga_id, "PublishProvisionedEvent")
