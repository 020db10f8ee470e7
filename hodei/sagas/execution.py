"""EXECUTION: one attempt of a job on a worker, from a READY worker to the job's end.

Metadata: ``job_id``, ``worker_id``, ``provider_id``, ``attempt`` (the number that this attempt will have).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hodei.domain import ids
from hodei.domain.causes import Failure
from hodei.domain.job import JobSpec
from hodei.domain.states import EXECUTION_LIVE, ExecutionState, JobState, WorkerState
from hodei.ports import Platform
from hodei.providers.contract import ProviderError, as_provider_errors
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.release import give_up_worker, has_registered_since, release_worker
from hodei.sagas.settle import end_attempt, export_attempt_log, settle_attempt
from hodei.sagas.silence import awaits_answer_until
from hodei.sagas.steps import Done, ExternalStep, Saga, SagaType, Step, StepCut, StepFailed, Wait
from hodei.storage.transaction import Row, Transaction

LOG_MARGIN_S = 10.0
"""How long a reported job waits for the rest of its log before it ends with the log marked incomplete."""

FAR_AWAY = timedelta(days=3650)
CANCELLED = "The job was cancelled."


class ValidateJob(Step):
    """Looks whether the job still wants this attempt, and whether the worker can take it."""

    name = "ValidateJob"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        job = tx.row("job_lock", id=saga.uuid("job_id"))
        if job is not None and job.cancel_requested_at is not None:
            raise StepCut(CANCELLED)
        if job is None or job.state not in (JobState.PENDING, JobState.SCHEDULED):
            raise StepFailed(Failure(code="ERR_1009", message="The job does not wait for a worker any more."))
        if job.attempts + 1 != saga.metadata["attempt"]:
            raise StepFailed(Failure(code="ERR_1009", message="The job does not want this attempt any more."))
        worker = tx.row("worker_lock", id=saga.uuid("worker_id"))
        if worker is None or worker.state != WorkerState.READY:
            raise StepFailed(
                Failure(code="ERR_2001", message="The worker was not ready when it was to get the job.")
            )
        return Done()


class AssignWorker(Step):
    """Gives the job to the worker: from here on the attempt has its number, which is its fence."""

    name = "AssignWorker"
    undoable = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        job_id, worker_id = saga.uuid("job_id"), saga.uuid("worker_id")
        job = tx.row("job_lock", id=job_id)
        if job is not None and job.cancel_requested_at is not None:
            raise StepCut(CANCELLED)
        fence = tx.scalar(
            "job_set_assigned_if_waiting",
            id=job_id,
            provider_id=saga.uuid("provider_id"),
            worker_id=worker_id,
            attempt=saga.metadata["attempt"],
        )
        if job is None or fence is None:
            raise StepFailed(
                Failure(code="ERR_1009", message="The job was taken away before it was assigned.")
            )
        if not tx.execute("worker_set_busy_if_ready", id=worker_id, job_id=job_id):
            raise StepFailed(
                Failure(code="ERR_2001", message="The worker was not ready when it was to get the job.")
            )
        execution_id = ids.execution_id(job_id, fence)
        spec = JobSpec.from_json(job.spec)
        tx.execute(
            "execution_insert",
            id=execution_id,
            job_id=job_id,
            attempt=fence,
            worker_id=worker_id,
            saga_id=saga.id,
            command=spec.command,
        )
        tx.record(
            "job",
            job_id,
            "JobAssigned",
            {"worker_id": str(worker_id), "provider_id": saga.metadata["provider_id"], "attempt": fence},
            actor=saga.actor,
        )
        if fence > 1:
            wake_sagas_of_job(platform, tx, job_id, "RECOVERY")
        return Done(output={"execution_id": str(execution_id), "fence": fence})

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """The attempt is over, and its worker is not trusted with anything more, unless it has gone on to another already.

        A result that came meanwhile wins: the job ends with it. What the agent has reported as cancelled is ended, with its
        log, by the CANCELLATION.
        """
        worker_id = saga.uuid("worker_id")
        reason = saga.failure.message if saga.failure else "its job was taken away"
        execution = _execution(tx, saga)
        if execution is not None and execution.saga_id != saga.id:
            return  # a later try of the job got this number: the attempt and its worker are that one's
        if execution is not None and execution.reported_at is not None:
            if not is_cancelled(execution):
                not_exported = {"storage_uri": None, "log_complete": log_is_complete(execution)}
                complete_attempt(platform, tx, saga, execution, written=not_exported)
            return
        if execution is not None:
            tx.execute(
                "execution_set_ended",
                id=execution.id,
                state=ExecutionState.LOST.value,
                log_complete=False,
                error_code=saga.failure.code if saga.failure else None,
                error_message=reason,
            )
            tx.after_commit(lambda: platform.wakeups.wake(f"log:{saga.correlation_id}"))
        worker = _worker_that_has_it(tx, saga)
        if worker is None or has_registered_since(worker, execution):
            return
        if execution is not None and _was_revoked(execution):
            release_worker(platform, tx, worker_id, saga.uuid("job_id"), reason=reason)
        else:
            give_up_worker(platform, tx, worker_id, reason=reason)


class ExecuteJob(Step):
    """Puts the job into the worker's inbox and waits for what the agent reports."""

    name = "ExecuteJob"
    waits = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        execution = _execution(tx, saga)
        if execution is None:
            raise StepFailed(Failure(code="ERR_4006", message="The attempt's row is gone."))
        if execution.state not in EXECUTION_LIVE:  # ended by the saga that cancelled it or ran out its time
            raise _ended_elsewhere(execution)
        job = tx.row("job_lock", id=saga.uuid("job_id"))
        cancelled = job is not None and job.cancel_requested_at is not None
        if execution.reported_at is not None and not (cancelled and is_cancelled(execution)):
            return Done(output={"reported_at": execution.reported_at.isoformat()})
        if cancelled and execution.reported_at is not None:
            raise StepCut(CANCELLED)
        if execution.error_code is not None:  # the clock found out that its worker is gone
            raise StepFailed(Failure(code=execution.error_code, message=execution.error_message))
        worker_id = saga.uuid("worker_id")
        spec = JobSpec.from_json(job.spec if job else {})
        output: dict[str, Any] = {}
        if not saga.outputs[self.name].get("sent"):
            tx.execute(
                "message_send", worker_id=worker_id, kind="run", payload={"execution_id": str(execution.id)}
            )
            tx.after_commit(lambda: platform.wakeups.wake(f"inbox:{worker_id}"))
            output = {"sent": True}
        if execution.started_at is not None:
            return Wait(until=saga.now + FAR_AWAY, output=output)  # the clock looks at its time-outs
        start_s = spec.timeouts.start_s
        lease_over = execution.created_at + timedelta(seconds=start_s + platform.settings.lease_over_s)
        until = awaits_answer_until(
            tx, now=saga.now, since=execution.created_at, within_s=start_s, latest=lease_over
        )
        if until is None:
            raise StepFailed(Failure(code="ERR_2002", message="The worker did not start the job in time."))
        return Wait(until=until, output=output)


def is_cancelled(execution: Row) -> bool:
    """Whether the agent ended it because it was told to cancel it."""
    return execution.reported_at is not None and execution.result.get("outcome") == "cancelled"


def _worker_that_has_it(tx: Transaction, saga: Saga) -> Row | None:
    """The worker, held after the job, while it has this attempt; None once it has gone on to another."""
    job = tx.row("job_lock", id=saga.uuid("job_id"))
    worker = tx.row("worker_lock", id=saga.uuid("worker_id"))
    if job is None or worker is None or job.attempts != saga.metadata["attempt"]:
        return None
    return worker if worker.current_job_id == job.id else None


def _was_revoked(execution: Row) -> bool:
    """Whether it was cancelled before its agent had asked for it: nothing of it was started, and nothing will be."""
    return execution.state == ExecutionState.CANCELLED and execution.accepted_at is None


def _ended_elsewhere(execution: Row) -> StepFailed | StepCut:
    if execution.state == ExecutionState.CANCELLED:
        return StepCut(CANCELLED)
    code, message = execution.error_code or "ERR_2006", execution.error_message or "The attempt was ended."
    return StepFailed(Failure(code=code, message=message))


class CompleteJob(ExternalStep):
    """Exports the log, then ends attempt and job, and sets the worker TERMINATING, in one transaction."""

    name = "CompleteJob"

    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        with platform.database.begin() as tx:
            execution = _execution(tx, saga)
        if execution is None:
            raise StepFailed(Failure(code="ERR_4006", message="The attempt's row is gone."))
        whole = log_is_whole(execution)
        give_up = execution.reported_at + timedelta(seconds=LOG_MARGIN_S)
        if not whole and saga.now < give_up:
            return Wait(until=give_up)
        told_to_leave = execution.result.get("outcome") == "worker_stopped"
        cause = _cause_of_leaving(platform, saga) if told_to_leave else None
        complete = log_is_complete(execution)
        return Done(
            output={"log_complete": complete, "cause": cause, **export_attempt_log(platform, execution)}
        )

    def record(self, platform: Platform, tx: Transaction, saga: Saga, answer: Done | Wait) -> None:
        if isinstance(answer, Wait):
            return
        execution = _execution(tx, saga)
        if execution is not None:
            cause = answer.output["cause"]
            complete_attempt(
                platform,
                tx,
                saga,
                execution,
                written=answer.output,
                cause=Failure(**cause) if cause else None,
            )


def complete_attempt(
    platform: Platform,
    tx: Transaction,
    saga: Saga,
    execution: Row,
    *,
    written: dict[str, Any],
    cause: Failure | None = None,
) -> None:
    """End attempt and job as the agent reported it, and let the worker go; nothing when either is over already.

    ``written`` is as :func:`end_attempt` has it; ``cause`` is what the provider knows better than the agent.
    """
    job = tx.row("job_lock", id=execution.job_id)
    if job is None or job.attempts != execution.attempt or execution.state not in EXECUTION_LIVE:
        return
    end, failure = ending(execution)
    failure = cause or failure
    if not written["log_complete"] and failure is None:
        failure = incomplete(execution, "The job succeeded")
    end_attempt(platform, tx, execution, end=end, failure=failure, written=written)
    settle_attempt(
        platform,
        tx,
        job,
        spec=JobSpec.from_json(job.spec),
        failure=failure,
        end=end,
        actor=saga.actor,
        exit_code=execution.exit_code,
        result=execution.result,
        started_at=execution.started_at,
    )
    release_worker(platform, tx, execution.worker_id, job.id)
    if job.cancel_requested_at is not None:
        wake_sagas_of_job(platform, tx, job.id, "CANCELLATION")


def _cause_of_leaving(platform: Platform, saga: Saga) -> dict[str, str] | None:
    """The agent knows that it was told to leave; its provider may know why (an eviction, somebody's deletion)."""
    with platform.database.begin() as tx:
        worker = tx.row("worker_get", id=saga.uuid("worker_id"))
    if worker is None or worker.state in (WorkerState.TERMINATING, WorkerState.TERMINATED):
        return None  # it was us
    try:
        with as_provider_errors():
            seen = platform.providers.get(saga.uuid("provider_id")).inspect(saga.uuid("worker_id"))
    except ProviderError:
        return None
    return None if seen.failure is None else {"code": seen.failure.code, "message": seen.failure.message}


def log_is_whole(execution: Row) -> bool:
    """Whether the frame that the result names as the last is stored, and all before it."""
    return execution.last_frame >= execution.result.get("last_frame", 0)


def log_is_complete(execution: Row) -> bool:
    """Whether all that the job wrote is stored, up to the cap: nothing was lost on the way, or dropped for want of room."""
    report = execution.result
    lost = report.get("lost_bytes")
    if lost is None:  # an older agent does not tell it from what was beyond the cap
        lost = 0 if report.get("truncated") else report.get("dropped_bytes")
    return log_is_whole(execution) and not lost


def incomplete(execution: Row, what: str) -> Failure:
    """What is wrong with an end that is right but for its log."""
    dropped = (execution.result or {}).get("dropped_entries")
    why = (
        f"{dropped} lines of its log were dropped on the worker; a line in their place says why"
        if dropped and log_is_whole(execution)
        else "a part of its log did not arrive"
    )
    return Failure(code="ERR_1016", message=f"{what}; {why}.")


def ending(execution: Row) -> tuple[JobState, Failure | None]:
    """The end that the agent's report means, and its cause."""
    outcome = execution.result.get("outcome")
    failure = None
    if execution.error_code:
        failure = Failure(code=execution.error_code, message=execution.error_message or "")
    if outcome == "exited" and execution.exit_code == 0:
        return JobState.SUCCEEDED, None
    if outcome in ("timeout", "idle_timeout"):
        return JobState.TIMEOUT, failure
    if outcome == "cancelled":
        return JobState.CANCELLED, failure
    return JobState.FAILED, failure or Failure(code="ERR_1008", message="The job ended without a cause.")


def _execution(tx: Transaction, saga: Saga) -> Row | None:
    return tx.row("execution_of_attempt", job_id=saga.uuid("job_id"), attempt=saga.metadata["attempt"])


class Execution(SagaType):
    """Runs one attempt."""

    name = "EXECUTION"
    steps = (ValidateJob(), AssignWorker(), ExecuteJob(), CompleteJob())

    def undone(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """The worker was lost, or did not take the job: another attempt, or the end.

        A job that is being cancelled is left to its CANCELLATION.
        """
        recovered = self._is_being_recovered(tx, saga)
        job = tx.row("job_lock", id=saga.uuid("job_id"))
        self._release_unused(platform, tx, saga)
        if job is None or job.worker_id not in (None, saga.uuid("worker_id")):
            return
        if job.cancel_requested_at is not None:
            wake_sagas_of_job(platform, tx, job.id, "CANCELLATION")
            return
        if saga.failure is None or recovered:
            return
        before, given = saga.metadata["attempt"] - 1, saga.metadata["attempt"]
        waiting = job.state in (JobState.PENDING, JobState.SCHEDULED) and job.attempts == before
        assigned = job.state in (JobState.ASSIGNED, JobState.RUNNING) and job.attempts == given
        if not (waiting or assigned):
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

    def _is_being_recovered(self, tx: Transaction, saga: Saga) -> bool:
        """Its worker was lost: what becomes of the job is RECOVERY's to settle."""
        execution = _execution(tx, saga)
        if execution is None:
            return False
        return tx.scalar(
            "saga_is_open", job_id=execution.job_id, subject_id=execution.id, saga_type="RECOVERY"
        )

    def _release_unused(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """A worker that is still reserved for the job and did not get it is let go."""
        worker_id = saga.uuid("worker_id")
        worker = tx.row("worker_lock", id=worker_id)
        if worker is None or worker.state != WorkerState.READY or worker.reserved_for != saga.uuid("job_id"):
            return
        release_worker(platform, tx, worker_id, saga.uuid("job_id"), reason="its job was taken away")
