"""How an attempt becomes the job's end or its next attempt: the one place where either is written."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hodei.domain.causes import Failure
from hodei.domain.job import JobSpec
from hodei.domain.retry import Retry, decide
from hodei.domain.states import JOB_ACTIVE, JOB_TRANSITIONS, JobState, sources
from hodei.ports import Platform
from hodei.storage.transaction import Row, Transaction


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
    if isinstance(decision, Retry) and job.cancel_requested_at is None and failure is not None:
        return _retry(platform, tx, job, decision, failure, actor)
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
        infra=0 if decision.paid_by_user else 1,
        user=1 if decision.paid_by_user else 0,
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
            "paid_by": "user" if decision.paid_by_user else "infrastructure",
        },
        actor=actor,
    )
    return True
