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
from hodei.ports import Platform
from hodei.sagas.registry import engine
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

ACTOR = "dispatcher"
BATCH = 20


def look(platform: Platform) -> int:
    """Give out as many jobs as there is room for; return how many. Harmless at any time."""
    settings = platform.settings
    if not settings.job_controller_enabled:
        return 0
    with platform.database.glance() as tx:
        providers = tx.rows("provider_list")
    given = 0
    for provider in providers:
        if provider.status not in ("ACTIVE", "DEGRADED"):
            continue
        names = [provider.name] + (["auto"] if _takes_auto(platform, provider, providers) else [])
        while True:
            now_given = _dispatch_to(platform, provider.id, names)
            given += now_given
            if now_given < BATCH:
                break
    return given


def _takes_auto(platform: Platform, provider: Row, providers: list[Row]) -> bool:
    """``auto`` never means process, but in dev mode when there is nothing else."""
    if provider.provider_type != "process":
        return True
    others = [row for row in providers if row.id != provider.id and row.status in ("ACTIVE", "DEGRADED")]
    return platform.settings.dev_mode and not others


def _dispatch_to(platform: Platform, provider_id: UUID, names: list[str]) -> int:
    with platform.database.begin() as tx:
        provider = tx.row("provider_lock", id=provider_id)
        if provider is None or provider.status not in ("ACTIVE", "DEGRADED"):
            return 0
        room = 0
        if platform.settings.provisioning_enabled:
            promised = tx.scalar("provider_places_promised", id=str(provider_id))
            room = provider.max_workers - provider.places_taken - promised
        given = 0
        for job in tx.rows("job_queue_head", names=names, limit=BATCH):
            if _give_to_idle_worker(platform, tx, job, provider):
                given += 1
            elif room > 0:
                _provision_for(platform, tx, job, provider)
                room -= 1
                given += 1
            else:
                break
        return given


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
    attempt, attempt_try = job.attempts + 1, _try_of(job, spec)
    made = worker_id(job.id, attempt, attempt_try)
    if not tx.execute("job_set_scheduled_if_pending", id=job.id, provider_id=provider.id, worker_id=made):
        return
    now = tx.scalar("now")
    metadata: dict[str, Any] = {
        "job_id": str(job.id),
        "provider_id": str(provider.id),
        "worker_id": str(made),
        "attempt": attempt,
        "image": spec.image,
        "cpu": spec.cpu,
        "memory_bytes": spec.memory_bytes,
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


def _try_of(job: Row, spec: JobSpec) -> int:
    """How often the next attempt was tried before, whoever paid: each try has ids of its own."""
    return job.infra_retries + spec.retries - job.user_retries


def start_execution(
    platform: Platform, tx: Transaction, job: Row, *, worker: UUID, provider_id: UUID
) -> None:
    """Start the saga that runs the job's next attempt on this worker."""
    attempt = job.attempts + 1
    engine(platform).start(
        tx,
        "EXECUTION",
        saga_id=saga_id("EXECUTION", job.id, attempt, _try_of(job, JobSpec.from_json(job.spec))),
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
    if worker.provisioning_saga_id is not None:
        engine(platform).wake(tx, "PROVISIONING", worker.provisioning_saga_id, "PublishProvisionedEvent")
