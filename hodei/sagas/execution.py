"""EXECUTION: one attempt of a job on a worker, from a READY worker to the job's end.

Metadata: ``job_id``, ``worker_id``, ``provider_id``, ``attempt`` (the number that this attempt will have).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hodei.domain.causes import Failure
from hodei.domain.ids import new_id
from hodei.domain.job import JobSpec
from hodei.domain.states import ExecutionState, JobState, WorkerState
from hodei.logs.export import export_log
from hodei.ports import Platform
from hodei.sagas.settle import settle_attempt
from hodei.sagas.steps import Done, ExternalStep, Saga, SagaType, Step, StepFailed, Wait
from hodei.storage.transaction import Row, Transaction

LOG_MARGIN_S = 10.0
"""How long a reported job waits for the rest of its log before it ends with the log marked incomplete."""

JOB_ENDED = "its job ended"
"""Why a worker is TERMINATING when all went as it should."""

FAR_AWAY = timedelta(days=3650)


class ValidateJob(Step):
    """Looks whether the job still wants this attempt, and whether the worker can take it."""

    name = "ValidateJob"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        job = tx.row("job_lock", id=saga.uuid("job_id"))
        if job is None or job.state not in (JobState.PENDING, JobState.SCHEDULED):
            raise StepFailed(Failure(code="ERR_1009", message="The job does not wait for a worker any more."))
        if job.attempts + 1 != saga.metadata["attempt"] or job.cancel_requested_at is not None:
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
        execution_id = new_id()
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
        return Done(output={"execution_id": str(execution_id), "fence": fence})

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """Release the worker: it is not trusted with anything more, and its attempt is over."""
        worker_id = saga.uuid("worker_id")
        reason = saga.failure.message if saga.failure else "its job was taken away"
        execution = _execution(tx, saga)
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
        if tx.scalar("worker_set_terminating", id=worker_id, destroy_in_s=0.0, reason=reason):
            tx.after_commit(lambda: platform.courier.destroy(worker_id))


class ExecuteJob(Step):
    """Puts the job into the worker's inbox and waits for what the agent reports."""

    name = "ExecuteJob"
    waits = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        execution = _execution(tx, saga)
        if execution is None:
            raise StepFailed(Failure(code="ERR_4006", message="The attempt's row is gone."))
        if execution.reported_at is not None:
            return Done(output={"reported_at": execution.reported_at.isoformat()})
        if execution.error_code is not None:  # the clock found out that its worker is gone
            raise StepFailed(Failure(code=execution.error_code, message=execution.error_message))
        worker_id = saga.uuid("worker_id")
        job = tx.row("job_lock", id=saga.uuid("job_id"))
        spec = JobSpec.from_json(job.spec if job else {})
        output: dict[str, Any] = {}
        if not saga.outputs[self.name].get("sent"):
            tx.execute(
                "message_send", worker_id=worker_id, kind="run", payload={"execution_id": str(execution.id)}
            )
            tx.after_commit(lambda: platform.wakeups.wake(f"inbox:{worker_id}"))
            output = {"sent": True}
        if execution.started_at is not None:
            return Wait(until=run_deadline(spec, execution.started_at, saga.now), output=output)
        deadline = execution.created_at + timedelta(seconds=spec.timeouts.start_s)
        if saga.now >= deadline:
            raise StepFailed(Failure(code="ERR_2002", message="The worker did not start the job in time."))
        return Wait(until=deadline, output=output)


def run_deadline(spec: JobSpec, started_at: datetime, now: datetime) -> datetime:
    """When the clock looks at a running job whose agent should have ended it; far away without a time-out."""
    if spec.timeout_s is None:
        return now + FAR_AWAY
    backstop = started_at + timedelta(seconds=spec.timeout_s + spec.grace_s + 30)
    return max(backstop, now + timedelta(seconds=30))


class CompleteJob(ExternalStep):
    """Exports the log, then ends attempt and job, and sets the worker TERMINATING, in one transaction."""

    name = "CompleteJob"

    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        with platform.database.begin() as tx:
            execution = _execution(tx, saga)
        if execution is None:
            raise StepFailed(Failure(code="ERR_4006", message="The attempt's row is gone."))
        whole = execution.last_frame >= execution.result.get("last_frame", 0)
        give_up = execution.reported_at + timedelta(seconds=LOG_MARGIN_S)
        if not whole and saga.now < give_up:
            return Wait(until=give_up)
        exported = export_log(platform.database, platform.settings.log_dir, execution)
        return Done(output={"log_complete": whole, **exported})

    def record(self, platform: Platform, tx: Transaction, saga: Saga, answer: Done | Wait) -> None:
        if isinstance(answer, Wait):
            return
        execution = _execution(tx, saga)
        job = tx.row("job_lock", id=saga.uuid("job_id"))
        if execution is None or job is None:
            return
        end, failure = ending(execution)
        log_complete = answer.output["log_complete"]
        if not log_complete and failure is None:
            failure = Failure(code="ERR_1016", message="The job succeeded; a part of its log did not arrive.")
        tx.execute(
            "execution_set_ended",
            id=execution.id,
            state=_EXECUTION_ENDS[end],
            log_complete=log_complete,
            error_code=failure.code if failure else None,
            error_message=failure.message if failure else None,
        )
        tx.execute(
            "log_file_insert",
            id=new_id(),
            job_id=job.id,
            execution_id=execution.id,
            storage_uri=answer.output["storage_uri"],
            size_bytes=answer.output["size_bytes"],
            entry_count=answer.output["entry_count"],
            retention_s=platform.settings.log_retention,
        )
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
        self._release(platform, tx, saga)

    def _release(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        worker_id = saga.uuid("worker_id")
        if tx.execute("worker_set_ready_if_busy", id=worker_id):
            tx.after_commit(platform.courier.look)
        elif tx.scalar("worker_set_terminating", id=worker_id, destroy_in_s=0.0, reason=JOB_ENDED):
            tx.after_commit(lambda: platform.courier.destroy(worker_id))


_EXECUTION_ENDS = {
    JobState.SUCCEEDED: ExecutionState.COMPLETED.value,
    JobState.FAILED: ExecutionState.FAILED.value,
    JobState.CANCELLED: ExecutionState.CANCELLED.value,
    JobState.TIMEOUT: ExecutionState.TIMEOUT.value,
}


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
        """The worker was lost, or did not take the job: another attempt, or the end."""
        job = tx.row("job_lock", id=saga.uuid("job_id"))
        self._release_unused(platform, tx, saga)
        if job is None or saga.failure is None or job.worker_id not in (None, saga.uuid("worker_id")):
            return
        before, given = saga.metadata["attempt"] - 1, saga.metadata["attempt"]
        waiting = job.state in (JobState.PENDING, JobState.SCHEDULED) and job.attempts == before
        assigned = job.state in (JobState.ASSIGNED, JobState.RUNNING) and job.attempts == given
        cancelled = job.state == JobState.PENDING and job.cancel_requested_at is not None
        if cancelled or not (waiting or assigned):
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

    def _release_unused(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """A worker that is still reserved for the job and did not get it is ended: nobody else could use it."""
        worker_id = saga.uuid("worker_id")
        worker = tx.row("worker_lock", id=worker_id)
        if worker is None or worker.state != WorkerState.READY or worker.reserved_for != saga.uuid("job_id"):
            return
        if tx.scalar(
            "worker_set_terminating", id=worker_id, destroy_in_s=0.0, reason="its job was taken away"
        ):
            tx.after_commit(lambda: platform.courier.destroy(worker_id))
