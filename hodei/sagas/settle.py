"""How an attempt becomes the job's end or its next attempt: the one place where either is written."""

from __future__ import annotations

import math
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from hodei_agent.frames import FrameError

from hodei.domain.causes import Failure
from hodei.domain.ids import new_id
from hodei.domain.job import JobSpec
from hodei.domain.retry import Payer, Retry, decide
from hodei.domain.states import JOB_ACTIVE, JOB_TRANSITIONS, ExecutionState, JobState, sources
from hodei.errors import LogExpired
from hodei.logs.export import export_log
from hodei.ports import Platform
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

EXPORT_WAITS_S = 20.0
"""So long a job's end waits for its log's file: one of ordinary size on a slow disk."""
OF_STEP_LIMIT = 0.25
"""No wait for the folder of the logs takes a larger part of ``step_limit``."""

_EXECUTION_ENDS = {
    JobState.SUCCEEDED: ExecutionState.COMPLETED.value,
    JobState.FAILED: ExecutionState.FAILED.value,
    JobState.CANCELLED: ExecutionState.CANCELLED.value,
    JobState.TIMEOUT: ExecutionState.TIMEOUT.value,
}


def export_attempt_log(platform: Platform, execution: Row, *, wait_s: float = math.inf) -> dict[str, Any]:
    """Write the attempt's log file; what :func:`end_attempt` has to know of it. Idempotent.

    Neither a folder that cannot be written, hangs or is slow nor a log that cannot be read holds up a job's end. In the first the
    clock writes the file later; the second, a part of which is missing or damaged in Postgres, is incomplete and never has one.
    An export that takes longer than ``wait_s``, or EXPORT_WAITS_S, goes on: a file that it writes after the end was recorded is
    noted then.
    """
    try:
        return platform.log_folder.do(
            f"export {execution.id} {execution.log_entries}",
            partial(_export, platform, execution),
            wait_s=min(wait_s, EXPORT_WAITS_S, OF_STEP_LIMIT * platform.settings.step_limit),
            late=partial(note_late_export, platform, execution),
        )
    except TimeoutError as error:
        log.error(
            "log.not_exported",
            job_id=str(execution.job_id),
            path=str(platform.settings.log_dir),
            reason=error.strerror,
        )
        return {"storage_uri": None}


def _export(platform: Platform, execution: Row) -> dict[str, Any]:
    try:
        return export_log(platform.database, platform.settings.log_dir, execution)
    except OSError as error:
        log.error(
            "log.not_exported", job_id=str(execution.job_id), path=error.filename, reason=error.strerror
        )
        return {"storage_uri": None}
    except (LogExpired, FrameError) as error:
        log.error(
            "log.unreadable", job_id=str(execution.job_id), attempt=execution.attempt, reason=str(error)
        )
        return {"storage_uri": None, "log_complete": False, "unreadable": True}


def end_attempt(
    platform: Platform,
    tx: Transaction,
    execution: Row,
    *,
    end: JobState,
    failure: Failure | None,
    written: dict[str, Any],
) -> None:
    """End the attempt and note its log's file; ``written`` is what :func:`export_attempt_log` said, and ``log_complete``."""
    tx.execute(
        "execution_set_ended",
        id=execution.id,
        state=_EXECUTION_ENDS[end],
        log_complete=written["log_complete"],
        error_code=failure.code if failure else None,
        error_message=failure.message if failure else None,
    )
    note_log_file(platform, tx, job_id=execution.job_id, execution_id=execution.id, written=written)


def note_log_file(
    platform: Platform, tx: Transaction, *, job_id: UUID, execution_id: UUID, written: dict[str, Any]
) -> None:
    """The row of an exported log; or that it is still to be exported, if it ever can be."""
    if written["storage_uri"] is None:
        to_export = not written.get("unreadable")
        tx.execute("execution_set_log_to_export", id=execution_id, to_export=to_export)
        return
    tx.execute(
        "log_file_insert",
        id=new_id(),
        job_id=job_id,
        execution_id=execution_id,
        storage_uri=written["storage_uri"],
        size_bytes=written["size_bytes"],
        entry_count=written["entry_count"],
        retention_s=platform.settings.log_retention,
    )
    tx.execute("execution_set_log_to_export", id=execution_id, to_export=False)


def note_late_export(platform: Platform, execution: Row, written: dict[str, Any]) -> bool:
    """Note what became of a log that was left to be exported later; whether anything did, and nobody has noted it before."""
    if written["storage_uri"] is None and not written.get("unreadable"):
        return False
    with platform.database.begin() as tx:
        if not tx.execute("execution_set_log_to_export", id=execution.id, to_export=False):
            return False
        note_log_file(platform, tx, job_id=execution.job_id, execution_id=execution.id, written=written)
    return True


def settle_attempt(
    platform: Platform,
    tx: Transaction,
    job: Row,
    *,
    spec: JobSpec,
    failure: Failure | None,
    end: JobState,
    actor: str,
    exit_code: int | None = None,
    result: dict[str, Any] | None = None,
    started_at: datetime | None = None,
) -> bool:
    """End the job in ``end``, or put it back into the queue when its budgets allow another attempt.

    A job that is being cancelled gets no further attempt: where there would be one, and where its end is not its own
    doing, it is CANCELLED.
    The caller holds the job's row; the change is guarded by its state and fence all the same. True when it was made.
    """
    decision = decide(
        spec,
        failure=failure,
        exit_code=exit_code,
        end=end,
        user_retries_left=job.user_retries,
        infra_retries_used=job.infra_retries,
    )
    if isinstance(decision, Retry) and failure is not None and job.cancel_requested_at is None:
        return _retry(platform, tx, job, decision, failure, actor)
    not_its_doing = failure is not None and failure.is_infrastructure and end is JobState.FAILED
    if job.cancel_requested_at is not None and (isinstance(decision, Retry) or not_its_doing):
        end, failure = JobState.CANCELLED, None
    changed = tx.execute(
        "job_set_ended",
        id=job.id,
        state=end.value,
        from_states=sources(JOB_TRANSITIONS, end),
        fence=job.attempts,
        exit_code=exit_code,
        result=result or {},
        started_at=started_at,
        error_code=failure.code if failure else None,
        error_message=failure.message if failure else None,
    )
    if not changed:
        return False
    payload: dict[str, Any] = {"old_state": job.state, "new_state": end.value, "attempt": job.attempts}
    if exit_code is not None:
        payload["exit_code"] = exit_code
    if failure is not None:
        payload |= {"error_code": failure.code, "error_message": failure.message}
    tx.record("job", job.id, "JobStatusChanged", payload, actor=actor)
    tx.execute("secrets_forget", owner_id=job.id)
    tx.after_commit(lambda: platform.wakeups.wake(f"job:{job.id}"))
    tx.after_commit(lambda: platform.wakeups.wake(f"log:{job.id}"))
    if job.pipeline_run_id is not None:
        tx.after_commit(lambda: platform.courier.advance(job.pipeline_run_id))
    return True


def _retry(
    platform: Platform, tx: Transaction, job: Row, decision: Retry, failure: Failure, actor: str
) -> bool:
    changed = tx.execute(
        "job_set_pending_again",
        id=job.id,
        from_states=[*(state.value for state in JOB_ACTIVE), JobState.PENDING.value],
        fence=job.attempts,
        delay_s=decision.delay_s,
        infra=int(decision.paid_by is Payer.INFRASTRUCTURE),
        user=int(decision.paid_by is Payer.USER),
        queued_anew=decision.paid_by is not Payer.NOBODY,
        error_code=failure.code,
        error_message=failure.message,
    )
    if not changed:
        return False
    tx.record(
        "job",
        job.id,
        "JobRetried",
        {
            "attempt": job.attempts,
            "error_code": failure.code,
            "error_message": failure.message,
            "delay_s": round(decision.delay_s, 3),
            "paid_by": decision.paid_by.value,
        },
        actor=actor,
    )
    return True
