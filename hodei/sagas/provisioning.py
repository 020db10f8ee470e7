"""PROVISIONING: a worker made for a job, connected and ready; or nothing of it left.

Metadata: ``provider_id``, ``worker_id``, ``image``, ``deadline`` (ISO time); for a job ``job_id``, ``attempt``, ``cpu``,
``memory_bytes``, ``lifetime_s``; by hand ``max_jobs``, ``worker_type``, ``idle_s`` (how long it may be without a job).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from hodei.domain.causes import Failure
from hodei.domain.job import JobSpec
from hodei.domain.states import JobState, WorkerState
from hodei.ports import Platform, token_hash
from hodei.providers.contract import ResourceState
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.infrastructure import CreateInfrastructure, check_wanted, deadline, terminated
from hodei.sagas.settle import settle_attempt
from hodei.sagas.silence import awaits_answer_until
from hodei.sagas.steps import Done, Saga, SagaType, Step, StepFailed, Wait
from hodei.storage.transaction import Transaction

log = structlog.get_logger(__name__)

CONNECT_S = 120.0
"""How long a worker that was started may take to connect: Python's start and a few round trips, on a busy host."""


class ValidateProviderCapacity(Step):
    """Takes a place at the provider: one guarded update, so that ``max_workers`` holds for any number of controllers."""

    name = "ValidateProviderCapacity"
    undoable = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        check_wanted(tx, saga)
        provider_id = saga.uuid("provider_id")
        taken = tx.scalar("provider_take_place", id=provider_id)
        if taken is not None:
            return Done(output={"places_taken": taken})
        provider = tx.row("provider_find", key=str(provider_id))
        if provider is None:
            raise StepFailed(Failure(code="ERR_4001", message="The provider was removed."))
        if provider.status not in ("ACTIVE", "DEGRADED"):
            raise StepFailed(
                Failure(
                    code="ERR_4004",
                    message=f"Provider {provider.name} is {provider.status}: {provider.status_reason or 'no reason given'}.",
                )
            )
        raise StepFailed(
            Failure(
                code="ERR_4003",
                message=f"Provider {provider.name} has no room: {provider.places_taken} of {provider.max_workers} workers.",
            )
        )

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        if saga.outputs[self.name].get("places_taken"):
            tx.execute(
                "provider_release_place", id=saga.uuid("provider_id"), worker_id=saga.uuid("worker_id")
            )


class RegisterWorker(Step):
    """Writes the worker's row and its token's hash: both exist before anything of it does, so a crash leaves nothing unknown."""

    name = "RegisterWorker"
    undoable = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        worker_id, provider_id = saga.uuid("worker_id"), saga.uuid("provider_id")
        provider = tx.row("provider_find", key=str(provider_id))
        if provider is None:
            raise StepFailed(Failure(code="ERR_4001", message="The provider was removed."))
        job_id = saga.metadata.get("job_id")
        tx.execute(
            "worker_insert",
            id=worker_id,
            provider_id=provider_id,
            provider_type=provider.provider_type,
            reserved_for=job_id and UUID(job_id),
            max_jobs=saga.metadata.get("max_jobs", 1),
            worker_type=saga.metadata.get("worker_type"),
            saga_id=saga.id,
            image=saga.metadata.get("image"),
            connect_deadline=deadline(saga),
        )
        remaining_s = (deadline(saga) - saga.now).total_seconds()
        tx.execute(
            "token_insert",
            token_hash=token_hash(platform.one_time_token(worker_id)),
            worker_id=worker_id,
            kind="one_time",
            ttl_s=max(platform.settings.otp_ttl, remaining_s),
        )
        tx.record("worker", worker_id, "WorkerCreated", {"job_id": job_id}, actor=saga.actor)
        return Done(output={"worker_id": str(worker_id)})

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """The worker is TERMINATED. One that has connected after all, and got a job, is its job's from then on, and one that its
        provider could not end is the clock's.
        """
        worker = tx.row("worker_lock", id=saga.uuid("worker_id"))
        if worker is not None and worker.current_job_id is None and worker.state != WorkerState.TERMINATING:
            terminated(platform, tx, saga)


class PublishProvisionedEvent(Step):
    """Waits until the worker's inbox is open, and says so: from then on it can be given its job."""

    name = "PublishProvisionedEvent"
    waits = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        worker_id = saga.uuid("worker_id")
        check_wanted(tx, saga)
        worker = tx.row("worker_lock", id=worker_id)
        if worker is None:
            raise StepFailed(Failure(code="ERR_3007", message="The worker's row is gone."))
        if worker.inbox_polled_at is not None:
            tx.record(
                "worker",
                worker_id,
                "WorkerProvisioned",
                {"resource_id": worker.provider_resource_id, "job_id": saga.metadata.get("job_id")},
                actor=saga.actor,
            )
            return Done(output={"connected_at": worker.inbox_polled_at.isoformat()})
        seen = worker.agent.get("provider_failure")
        if seen is not None:
            raise StepFailed(Failure(code=seen["code"], message=seen["message"]))
        if worker.state in (WorkerState.TERMINATING, WorkerState.TERMINATED):
            raise StepFailed(
                Failure(code="ERR_3007", message=worker.termination_reason or "The worker was stopped.")
            )
        infrastructure = worker.agent.get("infrastructure") or {}
        until = _connects_until(tx, saga, infrastructure)
        if until is None:
            raise StepFailed(_too_late(infrastructure))
        return Wait(until=until)


def _too_late(infrastructure: dict[str, Any]) -> Failure:
    """Why a worker did not connect in time, as far as its provider showed it."""
    if infrastructure.get("code"):
        return Failure(code=infrastructure["code"], message=infrastructure["message"])
    if infrastructure.get("state") == ResourceState.STARTING:
        message = (
            "The worker was made and did not start to run in time: its image is large, or its host is slow."
        )
        return Failure(code="ERR_3005", message=message)
    return Failure(
        code="ERR_3005",
        message="The worker was started and did not connect in time. Check that it can reach worker-manager "
        "(HODEI_SERVER_HOST) and that the image holds Python 3.8 or later.",
    )


def _connects_until(tx: Transaction, saga: Saga, infrastructure: dict[str, Any]) -> datetime | None:
    """Once it runs, a worker has CONNECT_S to connect, within the whole of ``provision_s``; None when that is over.

    Where making it and its running are not one (a pod waits for a node, and for its image), the clock notes since when it runs.
    """
    latest = deadline(saga)
    since = infrastructure.get("since") or saga.outputs[CreateInfrastructure.name].get("created_at")
    if since is None or infrastructure.get("state") == ResourceState.STARTING:
        return latest if saga.now < latest else None
    runs_since = datetime.fromisoformat(since)
    return awaits_answer_until(tx, now=saga.now, since=runs_since, within_s=CONNECT_S, latest=latest)


class Provisioning(SagaType):
    """Makes a worker."""

    name = "PROVISIONING"
    steps = (
        ValidateProviderCapacity(),
        RegisterWorker(),
        CreateInfrastructure(),
        PublishProvisionedEvent(),
    )

    def undone(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """The job goes back to the queue or ends, as its causes and budgets say; a cancelled one is left to its CANCELLATION."""
        job_id = saga.metadata.get("job_id")
        if job_id is None:
            return
        job = tx.row("job_lock", id=UUID(job_id))
        if job is None or job.state != JobState.SCHEDULED or job.worker_id != saga.uuid("worker_id"):
            return
        if job.cancel_requested_at is not None:
            wake_sagas_of_job(platform, tx, job.id, "CANCELLATION")
            return
        if saga.failure is None:
            return
        settle_attempt(
            platform,
            tx,
            job,
            spec=JobSpec.from_json(job.spec),
            failure=saga.failure,
            end=JobState.FAILED,
            actor=saga.actor,
        )
