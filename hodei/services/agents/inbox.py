"""The inbox: what the platform has to say to a worker, waited for by long polls that hold no connection."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from hodei.domain.job import JobSpec, assignment_command
from hodei.ports import Platform
from hodei.services import dispatch
from hodei.services.agents.sessions import AgentIdentity
from hodei.storage.transaction import Transaction

POLL_S = 25.0
LOOK_EVERY_S = POLL_S
"""A waiting inbox is not looked at by itself: the wake-ups' sweep looks at all of a process at once."""


def poll_inbox(platform: Platform, agent: AgentIdentity, after: int, wait_s: float) -> list[dict[str, Any]]:
    """The messages above ``after``; waits for one up to ``wait_s``, holding no connection.

    The first poll makes the worker READY.
    """
    give_up = time.monotonic() + min(wait_s, POLL_S)
    first = True
    with platform.wakeups.listen(f"inbox:{agent.worker_id}") as ear:
        while True:
            with platform.database.begin() as tx:
                if first:
                    _opened(platform, tx, agent, after)
                messages = _messages(platform, tx, agent, after)
            first = False
            remaining = give_up - time.monotonic()
            if messages or remaining <= 0 or platform.wakeups.closing:
                return messages
            ear.wait(min(remaining, LOOK_EVERY_S))


def _opened(platform: Platform, tx: Transaction, agent: AgentIdentity, after: int) -> None:
    if after:
        tx.execute("messages_acknowledge", worker_id=agent.worker_id, after=after)
    if tx.execute("worker_set_ready_if_connecting", id=agent.worker_id):
        worker = tx.row("worker_lock", id=agent.worker_id)
        assert worker is not None
        dispatch.worker_is_ready(platform, tx, worker)
    else:
        tx.execute("worker_touch_inbox", ids=[agent.worker_id])


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
    secrets = {
        row.name: platform.vault.decrypt(row.ciphertext)
        for row in (tx.rows("secrets_of", owner_id=execution.job_id) if spec.secret_names else [])
    }
    return {
        "execution_id": str(execution_id),
        "job_id": str(execution.job_id),
        "attempt": execution.attempt,
        "fence": execution.attempt,
        **assignment_command(spec),
        "env": spec.env,
        "secrets": secrets,
        "timeout_s": spec.timeout_s,
        "idle_s": spec.timeouts.idle_s,
        "grace_s": spec.grace_s,
        "log_max_bytes": platform.settings.log_max_bytes,
    }
