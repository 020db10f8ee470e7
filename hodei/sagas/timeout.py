"""TIMEOUT: an attempt that its agent should have ended in time, and has not, because the agent is gone.

Metadata: ``job_id``, ``attempt``, ``worker_id``, ``kind`` (``run``, ``idle``).

A result that is reported before the end is written down wins.
"""

from __future__ import annotations

from datetime import timedelta

from hodei.domain.causes import Failure
from hodei.domain.job import JobSpec
from hodei.domain.states import EXECUTION_LIVE, JobState, WorkerState
from hodei.ports import Platform
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.release import give_up_worker, has_registered_since
from hodei.sagas.settle import end_attempt, export_attempt_log, settle_attempt
from hodei.sagas.silence import blamed_silence_s
from hodei.sagas.steps import Done, ExternalStep, Saga, SagaType, Step, Wait
from hodei.settings import Settings
from hodei.storage.transaction import Row, Transaction

LOOK_AGAIN_S = 5.0


def _facts(tx: Transaction, saga: Saga) -> tuple[Row, Row] | None:
    """The attempt and its job, held, while the job still runs in it, unreported; None when something else came first."""
    attempt = saga.metadata["attempt"]
    execution = tx.row("execution_of_attempt", job_id=saga.uuid("job_id"), attempt=attempt)
    job = tx.row("job_lock", id=saga.uuid("job_id"))
    if job is None or execution is None or execution.reported_at is not None:
        return None
    if job.state != JobState.RUNNING or job.attempts != attempt or execution.state not in EXECUTION_LIVE:
        return None
    return execution, job


def silence_limit_s(settings: Settings, kind: str) -> float:
    """How long an agent must have been silent before the clock ends its job in its place. How long a job has run is known without
    it; what it writes while its line is cut is not, so an idle one is waited for as long as its worker is."""
    return settings.worker_give_up_after if kind == "idle" else settings.worker_lost_after


OVERTAKEN = Done(output={"overtaken": True})


class ValidateTimeout(Step):
    """Looks again at clock, fence and result, and at whether the agent is silent still.

    A self-hosted worker's agent that has registered again has ended the job without a result.
    """

    name = "ValidateTimeout"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        facts = _facts(tx, saga)
        if facts is None:
            return OVERTAKEN
        worker = tx.row("worker_silence", id=saga.uuid("worker_id"))
        limit_s = silence_limit_s(platform.settings, saga.metadata["kind"])
        silent = worker is None or blamed_silence_s(tx, worker) >= limit_s
        if not silent and not has_registered_since(worker, facts[0]):
            return OVERTAKEN  # it is back with its job, or could not be: it ends its job itself
        return Done(output={"kind": saga.metadata["kind"]})


class TerminateWorker(Step):
    """Has the worker ended, and waits until its provider confirms it, or until its lease has run out.

    One whose agent has registered again has nothing of the job, and is left to its next.
    """

    name = "TerminateWorker"
    waits = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        facts = _facts(tx, saga)
        if saga.outputs[ValidateTimeout.name].get("overtaken") or facts is None:
            return OVERTAKEN
        worker_id = saga.uuid("worker_id")
        if has_registered_since(tx.row("worker_lock", id=worker_id), facts[0]):
            return Done(output={"confirmed_by": "agent"})
        give_up_worker(platform, tx, worker_id, reason="its job ran out of time, and its agent is silent")
        worker = tx.row("worker_silence", id=worker_id)
        if worker is None or worker.state == WorkerState.TERMINATED:
            return Done(output={"confirmed_by": "provider"})
        if worker.silent_s is not None and worker.silent_s > platform.settings.lease_over_s:
            return Done(output={"confirmed_by": "lease"})
        return Wait(until=saga.now + timedelta(seconds=LOOK_AGAIN_S))


class MarkJobFailed(ExternalStep):
    """Exports what there is of the log and ends attempt and job as TIMEOUT; or the job is tried again, if it asked for that."""

    name = "MarkJobFailed"

    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        with platform.database.begin() as tx:
            facts = _facts(tx, saga)
        if facts is None or saga.outputs[TerminateWorker.name].get("overtaken"):
            return OVERTAKEN
        return Done(output={"log_complete": False, **export_attempt_log(platform, facts[0])})

    def record(self, platform: Platform, tx: Transaction, saga: Saga, answer: Done | Wait) -> None:
        if answer.output.get("overtaken"):
            return
        tx.execute("sagas_hurry_of_job", job_id=saga.uuid("job_id"), types=["EXECUTION"])
        facts = _facts(tx, saga)
        if facts is None:
            return
        execution, job = facts
        spec = JobSpec.from_json(job.spec)
        failure = _failure(saga, spec)
        end_attempt(platform, tx, execution, end=JobState.TIMEOUT, failure=failure, written=answer.output)
        settle_attempt(
            platform,
            tx,
            job,
            spec=spec,
            failure=failure,
            end=JobState.TIMEOUT,
            actor=saga.actor,
            started_at=execution.started_at,
        )
        wake_sagas_of_job(platform, tx, job.id, "EXECUTION")


def _failure(saga: Saga, spec: JobSpec) -> Failure:
    gone = "its agent was silent, so the platform ended it"
    if saga.metadata["kind"] == "idle":
        limit = spec.timeouts.idle_s or 0
        return Failure(
            code="ERR_1015", message=f"The job wrote nothing for {limit:g} s, its idle time-out; {gone}."
        )
    return Failure(
        code="ERR_1005", message=f"The job ran longer than its time-out of {spec.timeout_s or 0:g} s; {gone}."
    )


class ReleaseWorker(Step):
    """The worker is TERMINATING already; one whose host does not answer is left to the clock, which goes on trying."""

    name = "ReleaseWorker"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        worker = tx.row("worker_get", id=saga.uuid("worker_id"))
        return Done(output={"worker_state": worker.state if worker else WorkerState.TERMINATED.value})


class Timeout(SagaType):
    """Ends an attempt that ran out of time without its agent."""

    name = "TIMEOUT"
    steps = (ValidateTimeout(), TerminateWorker(), MarkJobFailed(), ReleaseWorker())
