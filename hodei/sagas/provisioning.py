"""PROVISIONING: a worker made for a job, connected and ready; or nothing of it left.

Metadata: ``provider_id``, ``worker_id``, ``image``, ``deadline`` (ISO time); for a job ``job_id``, ``attempt``, ``cpu``,
``memory_bytes``, ``lifetime_s``; by hand ``max_jobs``, ``worker_type``, ``idle_s`` (how long it may be without a job).
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from hodei.domain.causes import Failure
from hodei.domain.job import JobSpec
from hodei.domain.states import JobState, ProviderStatus, WorkerState
from hodei.ports import Platform, token_hash
from hodei.providers.contract import (
    ImageMissing,
    Provider,
    ProviderError,
    ResourceState,
    WorkerRequest,
    as_provider_errors,
)
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.release import end_infrastructure
from hodei.sagas.settle import settle_attempt
from hodei.sagas.silence import awaits_answer_until
from hodei.sagas.steps import Done, ExternalStep, Saga, SagaType, Step, StepCut, StepFailed, Wait
from hodei.storage.transaction import Transaction

log = structlog.get_logger(__name__)

PULL_RESULT_IS_FRESH_FOR = timedelta(seconds=30)
LOOK_AGAIN = timedelta(seconds=20)
"""How soon an image is asked for again: the message that asks for its pull, or the puller, may have been lost."""

ASK_AGAIN = timedelta(seconds=5)
"""How soon a provider that did not answer, or has no room for the moment, is asked again."""

PASSING = frozenset({"ERR_5001", "ERR_5003", "ERR_5006"})
"""Causes of a provider that does not answer, or has no room for the moment: no reason to spend a job's retries."""

BREAKS = "ERR_5008"
BREAKS_FOR = timedelta(seconds=60)
"""How long a provider that answers and cannot (its containerd, or its etcd, is just being restarted) is taken for passing."""

CONNECT_S = 120.0
"""How long a worker that was started may take to connect: Python's start and a few round trips, on a busy host."""


def _deadline(saga: Saga) -> datetime:
    return datetime.fromisoformat(saga.metadata["deadline"])


def _check_wanted(tx: Transaction, saga: Saga) -> None:
    """Raises StepCut when the job that the worker is made for is being cancelled."""
    job_id = saga.metadata.get("job_id")
    if job_id is not None and tx.scalar(
        "job_is_cancelled_before_its_worker", id=UUID(job_id), worker_id=saga.uuid("worker_id")
    ):
        raise StepCut("Its job is being cancelled.")


class ValidateProviderCapacity(Step):
    """Takes a place at the provider: one guarded update, so that ``max_workers`` holds for any number of controllers."""

    name = "ValidateProviderCapacity"
    undoable = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        _check_wanted(tx, saga)
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
            connect_deadline=_deadline(saga),
        )
        remaining_s = (_deadline(saga) - saga.now).total_seconds()
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
            _terminated(platform, tx, saga)


def _terminated(platform: Platform, tx: Transaction, saga: Saga) -> None:
    """Nothing is left of the worker."""
    worker_id, reason = saga.uuid("worker_id"), _why_undone(saga)
    if tx.scalar("worker_set_terminated", id=worker_id, reason=reason):
        tx.record("worker", worker_id, "WorkerTerminated", {"reason": reason}, actor=saga.actor)
        tx.after_commit(platform.courier.look)


def _why_undone(saga: Saga) -> str:
    return saga.failure.message if saga.failure else "provisioning was undone"


def _has_come_to_work(tx: Transaction, worker_id: UUID) -> bool:
    """Whether the worker connected while its making was given up, and has a job; it is held from here on."""
    worker = tx.row("worker_lock", id=worker_id)
    return worker is not None and worker.current_job_id is not None


class CreateInfrastructure(ExternalStep):
    """Has the provider make the container, pod or process; an image that is missing is pulled first, outside any step."""

    name = "CreateInfrastructure"
    undoable = True

    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        provider_id, image = saga.uuid("provider_id"), saga.metadata.get("image")
        began = time.monotonic()
        if self._is_known_to_be_away(platform, saga):
            return Wait(until=min(_deadline(saga), saga.now + ASK_AGAIN))
        platform.providers.refresh()  # a worker is made as its provider is now, whoever changed it a moment ago
        try:
            with as_provider_errors():
                provider = platform.providers.get(provider_id)
            if self._was_started(platform, saga):
                resource_id = _resource_of(provider, saga.uuid("worker_id"))
            else:
                resource_id = self._start(platform, saga, provider)
        except ImageMissing as missing:
            return self._await_image(platform, saga, missing)
        except ProviderError as error:
            return self._await_provider(saga, error)
        created_at = saga.now + timedelta(seconds=time.monotonic() - began)  # by the database's clock
        return Done(output={"resource_id": resource_id, "image": image, "created_at": created_at.isoformat()})

    def _is_known_to_be_away(self, platform: Platform, saga: Saga) -> bool:
        """It did not answer us, and its health says the same: asking it once more would only hold up the steps of others."""
        if saga.metadata.get("awaits_provider") is None or saga.now >= _deadline(saga):
            return False
        with platform.database.glance() as tx:
            provider = tx.row("provider_find", key=str(saga.uuid("provider_id")))
        return provider is not None and provider.status == ProviderStatus.UNHEALTHY

    def _start(self, platform: Platform, saga: Saga, provider: Provider) -> str:
        """Have it made. What no provider should raise is tried again, as after a crash, as long as provisioning may take."""
        request = self._request(platform, saga)
        try:
            with platform.provider_call(provider, "start"):
                return provider.start(request)
        except ProviderError:
            raise
        except Exception as error:
            if saga.now < _deadline(saga):
                raise
            log.exception("worker.not_made", worker_id=str(request.worker_id))
            message = f"The provider failed to make the worker: {type(error).__name__}: {error}"
            raise StepFailed(Failure(code="ERR_3007", message=message)) from error

    def _was_started(self, platform: Platform, saga: Saga) -> bool:
        """The runner before this one died after it had started the worker, which has come far since, perhaps to its end.

        Raises StepCut when nobody wants the worker any more.
        """
        with platform.database.begin() as tx:
            worker = tx.row("worker_get", id=saga.uuid("worker_id"))
            _check_wanted(tx, saga)
        return worker is not None and worker.state not in (WorkerState.CREATING, WorkerState.CONNECTING)

    def _request(self, platform: Platform, saga: Saga) -> WorkerRequest:
        metadata = saga.metadata
        worker_id = saga.uuid("worker_id")
        job_id = metadata.get("job_id")
        return WorkerRequest(
            worker_id=worker_id,
            one_time_token=platform.one_time_token(worker_id),
            deployment=platform.database.deployment,
            job_id=UUID(job_id) if job_id else None,
            image=metadata.get("image"),
            cpu=metadata.get("cpu"),
            memory_bytes=metadata.get("memory_bytes"),
            lifetime_s=metadata.get("lifetime_s"),
            patience_s=0.0,
        )

    def _await_provider(self, saga: Saga, error: ProviderError) -> Wait:
        """What passes is waited for, as long as provisioning may take. Raises StepFailed for what does not, and then."""
        latest = _deadline(saga)
        if error.failure.code == BREAKS:
            latest = min(latest, _started(saga) + BREAKS_FOR)
        elif error.failure.code not in PASSING:
            latest = saga.now
        if not error.transient or saga.now >= latest:
            raise StepFailed(error.failure) from error
        awaited = {"awaits_provider": error.failure.message, "awaits_image": None}
        return Wait(until=min(latest, saga.now + ASK_AGAIN), metadata=awaited)

    def _await_image(self, platform: Platform, saga: Saga, missing: ImageMissing) -> Wait:
        provider_id = saga.uuid("provider_id")
        with platform.database.begin() as tx:
            pull = tx.row(
                "pull_get",
                provider_id=provider_id,
                image=missing.image,
                since=max(saga.now - PULL_RESULT_IS_FRESH_FOR, _started(saga)),
            )
        if pull is not None and pull.state == "FAILED" and pull.fresh:
            raise StepFailed(Failure(code=pull.error_code, message=pull.error_message))
        if saga.now >= _deadline(saga):
            raise StepFailed(
                Failure(code="ERR_3005", message=f"The image {missing.image} was not there in time.")
            )
        until = min(_deadline(saga), saga.now + LOOK_AGAIN)
        return Wait(until=until, metadata={"awaits_image": missing.image, "awaits_provider": None})

    def record(self, platform: Platform, tx: Transaction, saga: Saga, answer: Done | Wait) -> None:
        if isinstance(answer, Done):
            tx.execute(
                "worker_set_infrastructure",
                id=saga.uuid("worker_id"),
                resource_id=answer.output["resource_id"],
            )
            return
        provider_id, missing = saga.uuid("provider_id"), answer.metadata.get("awaits_image")
        if missing is not None:
            tx.after_commit(
                lambda: platform.courier.pull(provider_id, missing)
            )  # a quick pull finds the saga waiting

    def act_undo(self, platform: Platform, saga: Saga) -> None:
        """Have the provider end it. When that cannot, and the time for provisioning is over, the clock goes on trying: what never
        registered and has no good token any more can do nothing, so nobody waits for its end.
        """
        worker_id = saga.uuid("worker_id")
        with platform.database.begin() as tx:
            if _has_come_to_work(tx, worker_id):
                return
            tx.scalar(
                "worker_set_terminating",
                id=worker_id,
                destroy_in_s=60.0,
                reason=_why_undone(saga),
            )
            worker = tx.row("worker_get", id=worker_id)
        if worker is None:
            return
        try:
            end_infrastructure(platform, worker)
        except ProviderError as error:
            if worker.registered_at is not None or saga.now < _deadline(saga):
                raise
            log.warning("worker.left_to_the_clock", worker_id=str(worker_id), reason=str(error))
            return
        with platform.database.begin() as tx:
            _terminated(platform, tx, saga)


class PublishProvisionedEvent(Step):
    """Waits until the worker's inbox is open, and says so: from then on it can be given its job."""

    name = "PublishProvisionedEvent"
    waits = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        worker_id = saga.uuid("worker_id")
        _check_wanted(tx, saga)
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


def _resource_of(provider: Provider, worker_id: UUID) -> str | None:
    """What the provider shows of a worker that may be gone already."""
    try:
        with as_provider_errors():
            return provider.inspect(worker_id).resource_id
    except ProviderError:
        return None


def _connects_until(tx: Transaction, saga: Saga, infrastructure: dict[str, Any]) -> datetime | None:
    """Once it runs, a worker has CONNECT_S to connect, within the whole of ``provision_s``; None when that is over.

    Where making it and its running are not one (a pod waits for a node, and for its image), the clock notes since when it runs.
    """
    latest = _deadline(saga)
    since = infrastructure.get("since") or saga.outputs[CreateInfrastructure.name].get("created_at")
    if since is None or infrastructure.get("state") == ResourceState.STARTING:
        return latest if saga.now < latest else None
    runs_since = datetime.fromisoformat(since)
    return awaits_answer_until(tx, now=saga.now, since=runs_since, within_s=CONNECT_S, latest=latest)


def _started(saga: Saga) -> datetime:
    return datetime.fromisoformat(saga.metadata["started_at"])


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
