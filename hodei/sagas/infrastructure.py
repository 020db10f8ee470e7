"""PROVISIONING's longest step, in which the worker is really made; and what the saga's other steps share with it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from hodei.domain.causes import Failure
from hodei.domain.states import ProviderStatus, WorkerState
from hodei.ports import Platform
from hodei.providers.contract import (
    ImageMissing,
    Provider,
    ProviderError,
    WorkerRequest,
    as_provider_errors,
)
from hodei.sagas.release import end_infrastructure
from hodei.sagas.steps import Done, ExternalStep, Saga, StepCut, StepFailed, Wait
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


def deadline(saga: Saga) -> datetime:
    return datetime.fromisoformat(saga.metadata["deadline"])


def started_at(saga: Saga) -> datetime:
    return datetime.fromisoformat(saga.metadata["started_at"])


def check_wanted(tx: Transaction, saga: Saga) -> None:
    """Raises StepCut when the job that the worker is made for is being cancelled."""
    job_id = saga.metadata.get("job_id")
    if job_id is not None and tx.scalar(
        "job_is_cancelled_before_its_worker", id=UUID(job_id), worker_id=saga.uuid("worker_id")
    ):
        raise StepCut("Its job is being cancelled.")


def terminated(platform: Platform, tx: Transaction, saga: Saga) -> None:
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
            return Wait(until=min(deadline(saga), saga.now + ASK_AGAIN), metadata={"breaks_since": None})
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
        """It did not answer us, and its health says the same: asking it once more would only hold up the steps of others.

        Raises StepCut when nobody wants the worker any more.
        """
        if saga.metadata.get("awaits_provider") is None or saga.now >= deadline(saga):
            return False
        with platform.database.begin() as tx:
            check_wanted(tx, saga)
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
            if saga.now < deadline(saga):
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
            check_wanted(tx, saga)
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
        latest, since = deadline(saga), None
        if error.failure.code == BREAKS:
            since = saga.metadata.get("breaks_since") or saga.now.isoformat()
            latest = min(latest, datetime.fromisoformat(since) + BREAKS_FOR)
        elif error.failure.code not in PASSING:
            latest = saga.now
        if not error.transient or saga.now >= latest:
            raise StepFailed(error.failure) from error
        awaited = {"awaits_provider": error.failure.message, "awaits_image": None, "breaks_since": since}
        return Wait(until=min(latest, saga.now + ASK_AGAIN), metadata=awaited)

    def _await_image(self, platform: Platform, saga: Saga, missing: ImageMissing) -> Wait:
        provider_id = saga.uuid("provider_id")
        with platform.database.begin() as tx:
            pull = tx.row(
                "pull_get",
                provider_id=provider_id,
                image=missing.image,
                since=max(saga.now - PULL_RESULT_IS_FRESH_FOR, started_at(saga)),
            )
        if pull is not None and pull.state == "FAILED" and pull.fresh:
            raise StepFailed(Failure(code=pull.error_code, message=pull.error_message))
        if saga.now >= deadline(saga):
            raise StepFailed(
                Failure(code="ERR_3005", message=f"The image {missing.image} was not there in time.")
            )
        until = min(deadline(saga), saga.now + LOOK_AGAIN)
        return Wait(
            until=until,
            metadata={"awaits_image": missing.image, "awaits_provider": None, "breaks_since": None},
        )

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
            if worker.registered_at is not None or saga.now < deadline(saga):
                raise
            log.warning("worker.left_to_the_clock", worker_id=str(worker_id), reason=str(error))
            return
        with platform.database.begin() as tx:
            terminated(platform, tx, saga)


def _resource_of(provider: Provider, worker_id: UUID) -> str | None:
    """What the provider shows of a worker that may be gone already."""
    try:
        with as_provider_errors():
            return provider.inspect(worker_id).resource_id
    except ProviderError:
        return None
