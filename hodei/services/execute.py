"""Executing a definition by hand: a job that is held, or has ended, is queued for an attempt whose id is known at once."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any
from uuid import UUID

from hodei.domain import ids
from hodei.domain.job import JobSpec
from hodei.domain.states import ExecutionState, JobState
from hodei.errors import Conflict, InvalidInput, NotFound
from hodei.ports import Platform
from hodei.services.history import get_execution
from hodei.services.idempotency import RequestKey, answer_anew, once
from hodei.storage.transaction import Transaction

LOOK_EVERY_S = 0.5
_NOT_BEGUN = frozenset({ExecutionState.PENDING.value})


def execute(
    platform: Platform,
    job_id: UUID,
    command: str | None,
    *,
    actor: str,
    wait_s: float,
    key: RequestKey | None = None,
) -> dict[str, Any]:
    """Queue the job, and answer its new execution once it has begun, or as it is after ``wait_s``.

    ``command`` becomes the job's own, in place of its command, script and arguments; None: it runs what it has. Holds no
    connection while it waits. Raises NotFound; InvalidInput when there is nothing to run; Conflict while the job is queued or
    running, and when its secrets were forgotten.
    """
    with platform.database.begin() as tx:
        first = once(tx, key, lambda: _queue(platform, tx, job_id, command, actor))
    if first["status"] not in _NOT_BEGUN:
        return first  # asked before, with the same key
    answer = _begun(platform, UUID(str(first["id"])), wait_s)
    with platform.database.begin() as tx:
        answer_anew(tx, key, answer)
    return answer


def _queue(
    platform: Platform, tx: Transaction, job_id: UUID, command: str | None, actor: str
) -> dict[str, Any]:
    job = tx.row("job_lock", id=job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}. List them with: hodei job list", field="job_id")
    state = JobState(job.state)
    if not state.is_terminal and not job.held:
        raise Conflict(f"The job is {state.value}: wait for its end.", job_status=state.value.lower())
    if job.held and job.schedule_id is not None:
        raise Conflict(
            "The job is a run of a schedule, which starts it when the one before it has ended: trigger the schedule, or "
            f"cancel it with: hodei job cancel {job_id}",
            job_status=state.value.lower(),
        )
    spec = JobSpec.from_json(job.spec)
    if command is not None:
        spec = replace(spec, command=command, script=None, args=None)
    if spec.is_held:
        raise InvalidInput("The job is a definition without a command: give one.", field="command")
    if state.is_terminal and spec.secret_names:
        raise Conflict("The job's secrets were forgotten when it ended: submit it again, with them.")
    attempt = job.attempts + 1
    execution_id = ids.execution_id(job_id, attempt)
    tx.execute("job_set_pending_to_execute", id=job_id, spec=spec.to_json(), retries=spec.retries)
    payload = {"execution_id": str(execution_id), "attempt": attempt, "old_state": state.value}
    _record(tx, job_id, execution_id, payload, actor)
    tx.after_commit(platform.courier.look)
    tx.after_commit(platform.courier.relay)
    return _view({"id": execution_id, "job_id": job_id, "command": spec.command, "status": "pending"})


def _record(tx: Transaction, job_id: UUID, execution_id: UUID, payload: dict[str, Any], actor: str) -> None:
    """The event, under the execution's own id, so that the execution is found by it before it begins.

    An attempt that never began may be asked for again: then its event is there already.
    """
    if tx.row("read_promised_execution", id=execution_id) is None:
        tx.scalar(
            "event_record_job",
            id=execution_id,
            aggregate_id=job_id,
            event_type="JobExecuteRequested",
            payload=payload,
            actor=actor,
        )
    else:
        tx.record("job", job_id, "JobExecuteRequested", payload, actor=actor)


def _begun(platform: Platform, execution_id: UUID, wait_s: float) -> dict[str, Any]:
    """The execution once it runs or has ended, or as it is when the time is over."""
    give_up = time.monotonic() + wait_s
    with platform.wakeups.listen(f"execution:{execution_id}") as ear:
        while True:
            found = get_execution(platform, execution_id)
            remaining = give_up - time.monotonic()
            if found["status"] not in _NOT_BEGUN or remaining <= 0 or platform.wakeups.closing:
                return _view(found)
            ear.wait(min(remaining, LOOK_EVERY_S))


def _view(execution: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "job_id", "command", "status", "started_at")
    return {name: execution.get(name) for name in names}
