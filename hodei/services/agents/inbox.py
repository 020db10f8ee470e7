"""The inbox: what the platform has to say to a worker, waited for by long polls that hold no connection."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from hodei.domain.job import JobSpec, assignment_command
from hodei.domain.states import WorkerState
from hodei.errors import ConfigurationError
from hodei.ports import Platform
from hodei.sagas.registry import engine
from hodei.services import dispatch, traces
from hodei.services.agents.sessions import AgentIdentity
from hodei.storage.transaction import Transaction

POLL_S = 25.0
NOT_YET_OPEN = (WorkerState.CREATING, WorkerState.CONNECTING)


def poll_inbox(platform: Platform, agent: AgentIdentity, after: int, wait_s: float) -> list[dict[str, Any]]:
    """The messages above ``after``; waits for one up to ``wait_s``, holding no connection.

    The first poll makes the worker READY. A waiting inbox is not looked at by itself: the wake-ups' sweep looks at all of a
    process at once.
    """
    give_up = time.monotonic() + min(wait_s, POLL_S)
    with platform.wakeups.listen(f"inbox:{agent.worker_id}") as ear:
        with platform.database.glance() as tx:
            inbox = tx.row("inbox_touch", id=agent.worker_id)
        if inbox is not None and (inbox.has_messages or inbox.state in NOT_YET_OPEN):
            messages = _take(platform, agent, after)
            if messages:
                return messages
        while (remaining := give_up - time.monotonic()) > 0 and not platform.wakeups.closing:
            if ear.wait(remaining) and (messages := _take(platform, agent, after)):
                return messages
    return []


def _take(platform: Platform, agent: AgentIdentity, after: int) -> list[dict[str, Any]]:
    """Forget what the agent has, open its inbox if this is its first poll, and read what it does not have yet."""
    with platform.database.begin() as tx:
        if after:
            tx.execute("messages_acknowledge", worker_id=agent.worker_id, after=after)
        if tx.execute("worker_set_ready_if_connecting", id=agent.worker_id):
            worker = tx.row("worker_lock", id=agent.worker_id)
            assert worker is not None
            dispatch.worker_is_ready(platform, tx, worker)
        return _messages(platform, tx, agent, after)


def _messages(platform: Platform, tx: Transaction, agent: AgentIdentity, after: int) -> list[dict[str, Any]]:
    messages = []
    for row in tx.rows("messages_after", worker_id=agent.worker_id, after=after):
        message: dict[str, Any] = {"seq": row.seq, "kind": row.kind}
        if row.kind == "run":
            execution_id = UUID(row.payload["execution_id"])
            message["execution"] = _assignment(platform, tx, agent, execution_id)
        else:
            message |= row.payload
        messages.append(message)
    return messages


def _assignment(
    platform: Platform, tx: Transaction, agent: AgentIdentity, execution_id: UUID
) -> dict[str, Any]:
    """What the agent is to start. Secrets are decrypted here and nowhere else, and never stored in a message."""
    execution = tx.row("execution_for_agent", id=execution_id, worker_id=agent.worker_id)
    if execution is None:
        return {"execution_id": str(execution_id), "fence": 0, "superseded": True}
    spec = JobSpec.from_json(execution.spec)
    try:
        secrets = {
            row.name: platform.vault.decrypt(row.ciphertext)
            for row in (tx.rows("secrets_of", owner_id=execution.job_id) if spec.secret_names else [])
        }
    except ConfigurationError as error:  # the attempt ends with it, and the agent gets its other messages
        tx.execute("execution_set_lost", id=execution_id, error_code="ERR_1011", error_message=error.message)
        engine(platform).wake(tx, "EXECUTION", execution.saga_id, "ExecuteJob")
        return {"execution_id": str(execution_id), "fence": 0, "superseded": True}
    return {
        "execution_id": str(execution_id),
        "job_id": str(execution.job_id),
        "attempt": execution.attempt,
        "fence": execution.attempt,
        **assignment_command(spec),
        "env": traces.environment(platform, tx, execution.job_id, execution.attempt) | spec.env,
        "secrets": secrets,
        "timeout_s": spec.timeout_s,
        "idle_s": spec.timeouts.idle_s,
        "grace_s": spec.grace_s,
        "log_max_bytes": platform.settings.log_max_bytes,
    }
