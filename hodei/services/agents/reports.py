"""What the agent reports of an attempt, in whatever order and how often it arrives: accepted, started, output, result."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from hodei_agent import frames
from hodei_agent.frames import Frame

from hodei.errors import InvalidInput, NotFound, StaleAttempt
from hodei.logs import store
from hodei.observability.context import about_job
from hodei.ports import Platform
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.registry import engine
from hodei.services.agents.sessions import AgentIdentity
from hodei.storage.transaction import Row, Transaction


def _execution(tx: Transaction, agent: AgentIdentity, execution_id: UUID, fence: int) -> Row:
    """The execution, locked. Raises NotFound when it is not this worker's, StaleAttempt when it was superseded."""
    execution = tx.row("execution_for_agent", id=execution_id, worker_id=agent.worker_id)
    if execution is None:
        raise NotFound(f"There is no execution {execution_id} of this worker.")
    about_job(execution.job_id, execution_id=execution_id, worker_id=agent.worker_id)
    current = fence == execution.attempt == execution.job_fence and execution.live
    told_before = fence == execution.attempt and execution.reported_at is not None
    if not current and not told_before:
        raise StaleAttempt()
    return execution


def accept(platform: Platform, agent: AgentIdentity, execution_id: UUID, fence: int) -> dict[str, Any]:
    """The agent has the job and asks whether it still may start it. Raises StaleAttempt when it must not."""
    with platform.database.begin() as tx:
        execution = _execution(tx, agent, execution_id, fence)
        if not _ensure_accepted(tx, execution, fence):
            raise StaleAttempt()
    return {"lease_s": platform.settings.lease_s}


def _ensure_accepted(tx: Transaction, execution: Row, fence: int) -> bool:
    """Note that the agent has the job, once; False when it may not have it. Whatever it says first implies this."""
    if not tx.execute("execution_set_accepted", id=execution.id, fence=fence):
        return False
    if execution.accepted_at is None:
        payload = {"worker_id": str(execution.worker_id), "attempt": fence}
        tx.record("job", execution.job_id, "JobAccepted", payload, actor="agent")
    return True


def started(
    platform: Platform, agent: AgentIdentity, execution_id: UUID, fence: int, pid: int, at_us: int
) -> dict[str, Any]:
    """The job's process runs: the job is RUNNING, because the agent said so."""
    with platform.database.begin() as tx:
        execution = _execution(tx, agent, execution_id, fence)
        _ensure_accepted(tx, execution, fence)
        if tx.execute("execution_set_running_if_pending", id=execution_id, fence=fence):
            if not tx.execute("job_set_running_if_assigned", id=execution.job_id, fence=fence):
                raise StaleAttempt()
            tx.record(
                "job",
                execution.job_id,
                "JobStatusChanged",
                {"old_state": "ASSIGNED", "new_state": "RUNNING", "attempt": fence},
                actor="agent",
            )
            tx.after_commit(lambda: platform.wakeups.wake(f"execution:{execution_id}"))
    return {"lease_s": platform.settings.lease_s}


def store_frames(
    platform: Platform, agent: AgentIdentity, execution_id: UUID, fence: int, body: bytes
) -> dict[str, int]:
    """Store log frames; return the highest one up to which all are stored, and how many entries and bytes of output these hold.
    Sending one again changes nothing."""
    try:
        received = store.receive(body)
        with platform.database.begin() as tx:
            execution = _execution(tx, agent, execution_id, fence)
            acknowledged = store.append(tx, execution, received)
            new = [frame for frame in received if execution.last_frame < frame.seq <= acknowledged]
            tx.after_commit(lambda: _measure(platform, new))
            job_id = execution.job_id
            stored = {
                "acknowledged": acknowledged,
                "entries": execution.log_entries + sum(frame.entries for frame in new),
                "bytes": execution.log_bytes + sum(frame.output_size for frame in new),
            }
            if execution.reported_at is not None and execution.live:  # the result was quicker than its log
                engine(platform).wake(tx, "EXECUTION", execution.saga_id, "CompleteJob")
                wake_sagas_of_job(platform, tx, job_id, "CANCELLATION")
            tx.after_commit(lambda: platform.wakeups.wake(f"log:{job_id}"))
    except frames.FrameError as error:
        raise InvalidInput(f"These are not log frames: {error}.") from error
    return stored


def _measure(platform: Platform, stored: list[Frame]) -> None:
    meters = platform.meters
    meters.log_bytes.inc(sum(frame.output_size for frame in stored))
    meters.log_entries.inc(sum(frame.entries for frame in stored))
    if stored:
        written_us = frames.first_written_us(stored[0])
        if written_us is not None:
            meters.log_lag.observe(max(0.0, time.time() - written_us / 1e6))


def report_result(
    platform: Platform, agent: AgentIdentity, execution_id: UUID, fence: int, result: dict[str, Any]
) -> dict[str, Any]:
    """Keep the result and have the job's EXECUTION saga go on. Reporting it again changes nothing."""
    with platform.database.begin() as tx:
        execution = _execution(tx, agent, execution_id, fence)
        if execution.reported_at is None:
            _ensure_started(tx, execution, fence)
            tx.execute(
                "execution_set_reported",
                id=execution_id,
                fence=fence,
                result={name: value for name, value in result.items() if name != "fence"},
                exit_code=result.get("exit_code"),
                signal=result.get("signal"),
                error_code=result.get("error_code"),
                error_message=result.get("error_message"),
            )
        engine(platform).wake(tx, "EXECUTION", execution.saga_id, "ExecuteJob")
    return {"lease_s": platform.settings.lease_s}


def _ensure_started(tx: Transaction, execution: Row, fence: int) -> None:
    """A job that was never started, because it could not be, has been RUNNING for no time: its events stay in order."""
    _ensure_accepted(tx, execution, fence)
    if tx.execute("execution_set_running_if_pending", id=execution.id, fence=fence):
        tx.execute("job_set_running_if_assigned", id=execution.job_id, fence=fence)
        tx.record(
            "job",
            execution.job_id,
            "JobStatusChanged",
            {"old_state": "ASSIGNED", "new_state": "RUNNING", "attempt": fence},
            actor="agent",
        )
