"""CANCELLATION: a job that somebody wants to end ends, and is CANCELLED once nothing of it lives.

Metadata: ``job_id``, ``attempt`` (the fence at the moment of the wish: no attempt begins after it), ``tries``, ``worker_id``,
``told`` (its agent was, in the transaction of the wish), ``requested_at``, ``grace_s``, ``cancel_s``.

Three things confirm the end: the agent's report; the provider, which shows the worker gone; and, when neither can be
reached within ``cancel_s``, the agent's lease, by which it has killed its child, or that the worker never registered and is
refused from now on. A result that was reported first wins.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hodei.domain.causes import Failure
from hodei.domain.job import JobSpec
from hodei.domain.states import EXECUTION_LIVE, JobState, WorkerState
from hodei.ports import Platform
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.execution import LOG_MARGIN_S, incomplete, is_cancelled, log_is_complete, log_is_whole
from hodei.sagas.release import give_up_worker, has_registered_since, release_worker
from hodei.sagas.settle import end_attempt, export_attempt_log, settle_attempt
from hodei.sagas.steps import Done, ExternalStep, Saga, SagaType, Step, Wait
from hodei.storage.transaction import Row, Transaction

ANSWER_S = 10.0
"""How long after KILL an agent may take to say that all is gone; then the provider is told to end its worker."""
LOOK_AGAIN_S = 5.0
"""How soon it looks again by itself, should what it waits for come without a message."""
GONE_S = 60.0
"""How long ReleaseWorker waits for the worker's end; after it the clock goes on alone."""

CUT = ("PROVISIONING", "EXECUTION")


def kill_at(tx: Transaction, requested_at: datetime, grace_s: float, cancel_s: float) -> datetime:
    """When the provider is told to end the worker, because its agent has not: our own downtime is not the agent's silence,
    but nobody waits for an answer longer than ``cancel_s``.
    """
    answer_s = timedelta(seconds=grace_s + ANSWER_S)
    reachable_since = tx.scalar("reachable_since")
    last = _last_answer_at(requested_at, grace_s, cancel_s)
    return last if reachable_since is None else min(last, max(requested_at, reachable_since) + answer_s)


def lease_counts_at(requested_at: datetime, grace_s: float, cancel_s: float) -> datetime:
    """From when on a lease that has run out is enough."""
    return _last_answer_at(requested_at, grace_s, cancel_s)


def _last_answer_at(requested_at: datetime, grace_s: float, cancel_s: float) -> datetime:
    return requested_at + timedelta(seconds=max(cancel_s, grace_s + ANSWER_S))


def _job(tx: Transaction, saga: Saga) -> Row | None:
    """The job, held, if it still is what this saga is to cancel; None when it has ended, or lives again."""
    job = tx.row("job_lock", id=saga.uuid("job_id"))
    if job is None or job.tries != saga.metadata["tries"] or job.cancel_requested_at is None:
        return None
    return None if JobState(job.state).is_terminal else job


def _overtaken(tx: Transaction, saga: Saga) -> Done:
    job = tx.row("job_lock", id=saga.uuid("job_id"))
    return Done(output={"overtaken": True, "job_state": job.state if job else None})


def _execution(tx: Transaction, saga: Saga) -> Row | None:
    """The attempt that was going on, held; None when there was none."""
    attempt = saga.metadata["attempt"]
    if not saga.metadata["assigned"]:
        return None
    return tx.row("execution_of_attempt", job_id=saga.uuid("job_id"), attempt=attempt)


def tell_to_cancel(platform: Platform, tx: Transaction, execution: Row, *, grace_s: float) -> None:
    """Put the cancel of this attempt into its agent's inbox."""
    payload = {
        "execution_id": str(execution.id),
        "fence": execution.attempt,
        "grace_s": grace_s,
        "reason": "cancelled",
    }
    worker_id = execution.worker_id
    tx.execute("message_send", worker_id=worker_id, kind="cancel", payload=payload)
    tx.after_commit(lambda: platform.wakeups.wake(f"inbox:{worker_id}"))


class ValidateCancellation(Step):
    """Looks whether there is still something to cancel."""

    name = "ValidateCancellation"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        job = _job(tx, saga)
        return _overtaken(tx, saga) if job is None else Done(output={"job_state": job.state})


class NotifyWorker(Step):
    """Has the job ended where it is: its worker's making is cut, its attempt is revoked, or its agent told."""

    name = "NotifyWorker"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        job_id = saga.uuid("job_id")
        tx.execute("sagas_hurry_of_job", job_id=job_id, types=list(CUT))
        execution = _execution(tx, saga)
        if _job(tx, saga) is None:
            return _overtaken(tx, saga)
        wake_sagas_of_job(platform, tx, job_id, *CUT)
        if execution is None:
            return Done(output={"told": "the sagas that make its worker"})
        if tx.execute("execution_revoke_if_not_accepted", id=execution.id):
            return Done(output={"told": "nobody: its agent had not accepted it"})
        if not saga.metadata.get("told"):
            tell_to_cancel(platform, tx, execution, grace_s=saga.metadata["grace_s"])
        return Done(output={"told": "its agent"})


class UpdateJobState(ExternalStep):
    """Waits until nothing of the job lives, exports its log, and makes it CANCELLED; an end that came first stays."""

    name = "UpdateJobState"
    waits = True

    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        with platform.database.begin() as tx:
            execution = _execution(tx, saga)
            job = _job(tx, saga)
            if job is None:
                return _overtaken(tx, saga)
            confirmed = _confirmed_by(platform, tx, saga, execution)
            if confirmed is None:
                return self._wait(platform, tx, saga, execution)
        whole = execution is None or execution.reported_at is None or log_is_whole(execution)
        if execution is not None and execution.reported_at is not None and not whole:
            give_up = execution.reported_at + timedelta(seconds=LOG_MARGIN_S)
            if saga.now < give_up:
                return Wait(until=give_up)
        output: dict[str, Any] = {"confirmed_by": confirmed}
        if execution is not None and execution.state in EXECUTION_LIVE:
            complete = execution.reported_at is not None and log_is_complete(execution)
            output |= {"log_complete": complete, **export_attempt_log(platform, execution)}
        return Done(output=output)

    def _wait(self, platform: Platform, tx: Transaction, saga: Saga, execution: Row | None) -> Wait:
        """Look at it again; when its agent had time enough, its worker is ended by the provider."""
        kill = kill_at(tx, _requested_at(saga), saga.metadata["grace_s"], saga.metadata["cancel_s"])
        if saga.now >= kill and execution is not None and execution.reported_at is None:
            reason = "its job was cancelled, and its agent did not say that it is gone"
            give_up_worker(platform, tx, saga.uuid("worker_id"), reason=reason)
        until = saga.now + timedelta(seconds=LOOK_AGAIN_S)
        return Wait(until=min(until, kill) if saga.now < kill else until)

    def record(self, platform: Platform, tx: Transaction, saga: Saga, answer: Done | Wait) -> None:
        if isinstance(answer, Wait) or answer.output.get("overtaken"):
            return
        job_id, worker_id = saga.uuid("job_id"), saga.uuid("worker_id")
        tx.execute("sagas_hurry_of_job", job_id=job_id, types=list(CUT))
        execution = _execution(tx, saga)
        job = _job(tx, saga)
        if job is None:
            return
        by_lease = answer.output["confirmed_by"] == LEASE
        failure = _unconfirmed(saga) if by_lease else None
        lacks = answer.output.get("log_complete") is False
        if failure is None and lacks and execution is not None:
            failure = incomplete(execution, "The job was cancelled")
        if execution is not None and "log_complete" in answer.output:
            end_attempt(
                platform, tx, execution, end=JobState.CANCELLED, failure=failure, written=answer.output
            )
        settle_attempt(
            platform,
            tx,
            job,
            spec=JobSpec.from_json(job.spec),
            failure=failure,
            end=JobState.CANCELLED,
            actor=saga.actor,
            exit_code=execution.exit_code if execution else None,
            result=execution.result if execution else None,
            started_at=execution.started_at if execution else None,
        )
        release_worker(platform, tx, worker_id, job.id)
        wake_sagas_of_job(platform, tx, job_id, *CUT)


class ReleaseWorker(Step):
    """Waits until nothing of the worker is left. One whose host does not answer is left to the clock, which goes on trying."""

    name = "ReleaseWorker"
    waits = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        worker = tx.row("worker_get", id=saga.uuid("worker_id"))
        state = WorkerState.TERMINATED.value if worker is None else worker.state
        since = saga.outputs[self.name].get("waits_since", saga.now.isoformat())
        given_up = saga.now >= datetime.fromisoformat(since) + timedelta(seconds=GONE_S)
        if state == WorkerState.TERMINATING and not given_up:
            until = saga.now + timedelta(seconds=LOOK_AGAIN_S)
            return Wait(until=until, output={"waits_since": since})
        return Done(output={"worker_state": state})


AGENT, PROVIDER, LEASE, NEVER_BEGAN = "agent", "provider", "lease", "never begun"
RESTARTED = "agent, started again"


def _confirmed_by(platform: Platform, tx: Transaction, saga: Saga, execution: Row | None) -> str | None:
    """Who says that nothing of the job lives; None while nobody does."""
    if execution is not None and execution.reported_at is not None:
        return AGENT if is_cancelled(execution) else None  # another result: EXECUTION ends the job with it
    if execution is not None and execution.accepted_at is None and execution.state not in EXECUTION_LIVE:
        return NEVER_BEGAN
    worker = tx.row("worker_silence", id=saga.uuid("worker_id"))
    gone = worker is None or worker.state == WorkerState.TERMINATED
    if gone and (execution is not None or not tx.scalar("sagas_making_worker", job_id=saga.uuid("job_id"))):
        return PROVIDER
    if has_registered_since(worker, execution):
        return RESTARTED
    metadata = saga.metadata
    if saga.now < lease_counts_at(_requested_at(saga), metadata["grace_s"], metadata["cancel_s"]):
        return None
    if worker is None:
        return None
    if worker.silent_s is None:  # it never registered, and cannot any more once it is TERMINATING
        return NEVER_BEGAN if worker.state == WorkerState.TERMINATING else None
    return LEASE if worker.silent_s > platform.settings.lease_over_s else None


def _unconfirmed(saga: Saga) -> Failure:
    return Failure(
        code="ERR_2006",
        message="Neither the worker nor its provider answered the cancel; the worker's lease has run out, so it has "
        "ended the job by its own clock.",
    )


def _requested_at(saga: Saga) -> datetime:
    return datetime.fromisoformat(saga.metadata["requested_at"])


class Cancellation(SagaType):
    """Ends a job that somebody cancelled."""

    name = "CANCELLATION"
    steps = (ValidateCancellation(), NotifyWorker(), UpdateJobState(), ReleaseWorker())
