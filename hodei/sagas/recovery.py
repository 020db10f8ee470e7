"""RECOVERY: a worker was lost in the middle of an attempt, and its job gets another one, or its end.

Metadata: ``job_id``, ``attempt``, ``execution_id``, ``worker_id``, ``provider_id``, ``error_code``, ``error_message`` (what the
clock saw).

The fence is raised first: from then on whatever the old attempt says is refused, and its agent kills its child. The next
attempt begins only when the old worker is confirmed gone, or its lease has run out. A result that was reported before the
fence was raised wins, and so does a worker that came back before.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from hodei.domain.causes import Failure
from hodei.domain.job import JobSpec
from hodei.domain.retry import Retry, decide
from hodei.domain.self_hosted import SELF_HOSTED
from hodei.domain.states import EXECUTION_LIVE, JOB_ACTIVE, ExecutionState, JobState, WorkerState
from hodei.ports import Platform
from hodei.providers.contract import ProviderError, ResourceState, as_provider_errors
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.release import destroy_worker, give_up_worker, has_registered_since
from hodei.sagas.settle import export_attempt_log, note_log_file, settle_attempt
from hodei.sagas.silence import blamed_silence_s
from hodei.sagas.steps import Done, ExternalStep, Saga, SagaType, Step, StepCut, StepFailed, Wait
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 5.0
QUEUE_LOOK_S = 30.0
"""How soon a job that waits in the queue is looked at by itself; the dispatcher says when it has a worker."""


def _attempt(tx: Transaction, saga: Saga) -> Row | None:
    return tx.row("execution_of_attempt", job_id=saga.uuid("job_id"), attempt=saga.metadata["attempt"])


def _old_attempt(tx: Transaction, saga: Saga) -> tuple[Row, Row]:
    """The attempt and its job, held. Raises StepCut when the job was ended without this saga."""
    execution = _attempt(tx, saga)
    job = tx.row("job_lock", id=saga.uuid("job_id"))
    if job is None or execution is None:
        raise StepCut("The job is gone.")
    if job.attempts > execution.attempt:
        return execution, job  # what this saga is for has happened, whatever became of the job since
    if job.cancel_requested_at is not None:
        raise StepCut("The job was cancelled.")
    if JobState(job.state).is_terminal:
        raise StepCut(f"The job has ended: it is {job.state}.")
    return execution, job


class CheckWorkerConnectivity(ExternalStep):
    """Decides by heartbeat, provider and result whether the worker is lost; if it is, its attempt's fence falls here."""

    name = "CheckWorkerConnectivity"

    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        worker_id = saga.uuid("worker_id")
        with platform.database.begin() as tx:
            worker = tx.row("worker_silence", id=worker_id)
            silent_s = 0.0 if worker is None else blamed_silence_s(tx, worker)
            execution = _attempt(tx, saga)
        if worker is None or worker.state == WorkerState.TERMINATED:
            return Done(output={"provider_shows": ResourceState.GONE.value})
        if has_registered_since(worker, execution):
            return Done(output={"provider_shows": "its agent was started again"})
        shows = _provider_shows(platform, saga)
        given_up = silent_s >= platform.settings.worker_give_up_after
        silent = silent_s >= platform.settings.worker_lost_after
        over = shows in (ResourceState.GONE, ResourceState.EXITED) or (shows is ResourceState.LOST and silent)
        if not over and not given_up:
            raise StepCut(f"The worker is not lost: it was heard {silent_s:.0f} s ago.")
        return Done(
            output={
                "provider_shows": shows.value if shows else "no answer",
                "silent_s": round(silent_s, 1),
            }
        )

    def record(self, platform: Platform, tx: Transaction, saga: Saga, answer: Done | Wait) -> None:
        tx.execute("sagas_hurry_of_job", job_id=saga.uuid("job_id"), types=["EXECUTION"])
        execution, job = _old_attempt(tx, saga)
        if execution.reported_at is not None:
            raise StepCut("The attempt's result is there.")
        if execution.state not in EXECUTION_LIVE or job.attempts != execution.attempt:
            raise StepCut("The attempt is over.")
        failure = _failure(saga)
        tx.execute(
            "execution_set_ended",
            id=execution.id,
            state=ExecutionState.LOST.value,
            log_complete=False,
            error_code=failure.code,
            error_message=failure.message,
        )
        if not has_registered_since(tx.row("worker_get", id=saga.uuid("worker_id")), execution):
            give_up_worker(platform, tx, saga.uuid("worker_id"), reason=failure.message)
        wake_sagas_of_job(platform, tx, job.id, "EXECUTION")


class TerminateOldWorker(ExternalStep):
    """Waits until the provider confirms that nothing of the worker is left, or its lease has run out; keeps the log it left."""

    name = "TerminateOldWorker"
    waits = True

    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        with platform.database.begin() as tx:
            execution, _ = _old_attempt(tx, saga)
            worker = tx.row("worker_silence", id=saga.uuid("worker_id"))
        if worker is None or worker.state == WorkerState.TERMINATED:
            confirmed = "provider"
        elif has_registered_since(worker, execution):
            confirmed = "agent"
        elif worker.silent_s is None or worker.silent_s > platform.settings.lease_over_s:
            confirmed = "lease"
        else:
            return Wait(until=saga.now + timedelta(seconds=LOOK_AGAIN_S))
        return Done(output={"confirmed_by": confirmed, "log": export_attempt_log(platform, execution)})

    def record(self, platform: Platform, tx: Transaction, saga: Saga, answer: Done | Wait) -> None:
        if isinstance(answer, Wait):
            return
        note_log_file(
            platform,
            tx,
            job_id=saga.uuid("job_id"),
            execution_id=saga.uuid("execution_id"),
            written=answer.output["log"],
        )


class ProvisionNewWorker(Step):
    """Puts the job back into the queue, as its budgets allow, and waits until the dispatcher has a worker for it."""

    name = "ProvisionNewWorker"
    waits = True
    undoable = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        _, job = _old_attempt(tx, saga)
        attempt = saga.metadata["attempt"]
        output: dict[str, Any] = {}
        if job.attempts > attempt:
            return Done(output={"new_worker_id": str(job.worker_id)})
        if job.state in JOB_ACTIVE and job.worker_id == saga.uuid("worker_id"):
            spec, failure = JobSpec.from_json(job.spec), _failure(saga)
            if not _may_go_on(job, spec, failure):
                raise StepFailed(failure)
            settle_attempt(
                platform, tx, job, spec=spec, failure=failure, end=JobState.FAILED, actor=saga.actor
            )
            tx.after_commit(platform.courier.look)
            output = {"queued": True}
        elif job.worker_id is not None:
            return Done(output={"new_worker_id": str(job.worker_id)})
        return Wait(until=saga.now + timedelta(seconds=QUEUE_LOOK_S), output=output)

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """A worker that was made for the job, and that the job does not have any more, is destroyed."""
        made = saga.outputs[self.name].get("new_worker_id")
        job = tx.row("job_lock", id=saga.uuid("job_id"))
        if made is not None and (job is None or str(job.worker_id) != made):
            destroy_worker(platform, tx, UUID(made), reason="the job that it was made for has ended")


class TransferJob(Step):
    """Waits until the job is assigned again: its new attempt has its number, and the old one's is worth nothing."""

    name = "TransferJob"
    waits = True
    undoable = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        _, job = _old_attempt(tx, saga)
        if job.attempts > saga.metadata["attempt"]:
            return Done(output={"attempt": job.attempts, "worker_id": str(job.worker_id)})
        return Wait(until=saga.now + timedelta(seconds=QUEUE_LOOK_S))

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """Nothing was transferred: what becomes of the job is settled when all is undone."""


class CancelOldWorker(Step):
    """Should the old worker ever be heard of again, it is told to leave; what its host still shows of it, the clock ends.

    A self-hosted one may stay: it is refused until its agent has ended what it had and registers again.
    """

    name = "CancelOldWorker"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        worker_id = saga.uuid("worker_id")
        worker = tx.row("worker_lock", id=worker_id)
        state = WorkerState.TERMINATED.value if worker is None else worker.state
        if state != WorkerState.TERMINATED and worker is not None and worker.provider_type != SELF_HOSTED:
            tx.execute("message_send", worker_id=worker_id, kind="shutdown", payload={"reason": "superseded"})
        return Done(output={"worker_state": state})


def _provider_shows(platform: Platform, saga: Saga) -> ResourceState | None:
    """What the provider shows of the worker; None when it does not answer."""
    try:
        with as_provider_errors():
            return platform.providers.get(saga.uuid("provider_id")).inspect(saga.uuid("worker_id")).state
    except ProviderError as error:
        log.warning("worker.not_inspected", worker_id=saga.metadata["worker_id"], reason=str(error))
        return None


def _failure(saga: Saga) -> Failure:
    return Failure(code=saga.metadata["error_code"], message=saga.metadata["error_message"])


def _may_go_on(job: Row, spec: JobSpec, failure: Failure) -> bool:
    decision = decide(
        spec,
        failure=failure,
        exit_code=None,
        end=JobState.FAILED,
        user_retries_left=job.user_retries,
        infra_retries_used=job.infra_retries,
    )
    return isinstance(decision, Retry)


class Recovery(SagaType):
    """Gives a job whose worker was lost another attempt."""

    name = "RECOVERY"
    steps = (
        CheckWorkerConnectivity(),
        TerminateOldWorker(),
        ProvisionNewWorker(),
        TransferJob(),
        CancelOldWorker(),
    )

    def undone(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """The job fails with the cause that its worker was lost for, when no budget is left for another attempt.

        An EXECUTION that was undone meanwhile has left the job to this saga: it is settled with that one's cause. Either looks
        at the other while it holds the attempt, so that one of them settles it. A job that lives on elsewhere is left alone.
        """
        execution = _attempt(tx, saga)
        job = tx.row("job_lock", id=saga.uuid("job_id"))
        if execution is None or job is None or job.attempts != execution.attempt:
            return
        if job.state not in JOB_ACTIVE or job.worker_id != execution.worker_id:
            return
        failure = saga.failure or _left_by_execution(execution, job)
        if failure is None:
            return
        settle_attempt(
            platform,
            tx,
            job,
            spec=JobSpec.from_json(job.spec),
            failure=failure,
            end=JobState.FAILED,
            actor=saga.actor,
        )


def _left_by_execution(execution: Row, job: Row) -> Failure | None:
    """What the attempt was lost for; None while its EXECUTION goes on, and for a job that its CANCELLATION ends."""
    if execution.state != ExecutionState.LOST or job.cancel_requested_at is not None:
        return None
    return Failure(code=execution.error_code, message=execution.error_message)
