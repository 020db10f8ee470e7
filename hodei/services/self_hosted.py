"""Self-hosted workers: entered by a person, started by a person, and back whenever their agent is.

The row lives as long as the person wants it. While the agent is away it is CONNECTING, without ``registered_at``, and its
session is refused; the agent registers again with what it keeps on disk, as a new process that has ended whatever the one
before had. So a registration that is younger than an attempt says that nothing of that attempt lives.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from hodei.domain.causes import Failure
from hodei.domain.ids import SELF_HOSTED_PROVIDER_ID, new_id
from hodei.domain.job import JobSpec
from hodei.domain.self_hosted import SELF_HOSTED, TYPE_LABEL, worker_token
from hodei.domain.states import WorkerState
from hodei.errors import Conflict
from hodei.ports import Platform, token_hash
from hodei.providers.self_hosted import CAPABILITIES
from hodei.sagas.release import destroy_worker, give_up_worker
from hodei.services.idempotency import RequestKey, answer_anew, once
from hodei.services.recoveries import recover
from hodei.services.workers import get_worker, worker_view
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

MAX_WORKERS = 1000
"""Of the provider that all of them belong to, until somebody changes it."""
BATCH = 100
NEVER_STARTED = "its token was not used in time"
ALIVE = frozenset({WorkerState.CONNECTING, WorkerState.READY, WorkerState.BUSY})


def enter_worker(
    platform: Platform, worker_type: str, *, actor: str, key: RequestKey | None = None
) -> dict[str, Any]:
    """Enter a worker into the registry, and answer it with the token for its agent, which is shown this once.

    Raises Conflict when the provider of self-hosted workers is switched off or has no place left.
    """
    worker_id = new_id()
    token = worker_token(worker_id.hex, platform.one_time_token(worker_id))
    with platform.database.begin() as tx:
        answer = once(tx, key, lambda: _entered(platform, tx, worker_id, worker_type, token, actor))
        if str(answer["id"]) != str(worker_id):
            return answer  # asked before, with the same key
        answer_anew(tx, key, answer | {"token": None})
    return answer


def _entered(
    platform: Platform, tx: Transaction, worker_id: UUID, worker_type: str, token: str, actor: str
) -> dict[str, Any]:
    tx.execute(
        "self_hosted_provider_ensure",
        id=SELF_HOSTED_PROVIDER_ID,
        max_workers=MAX_WORKERS,
        capabilities=asdict(CAPABILITIES),
    )
    if tx.scalar("provider_take_place", id=SELF_HOSTED_PROVIDER_ID) is None:
        provider = tx.row("provider_find", key=SELF_HOSTED)
        assert provider is not None
        raise Conflict(
            f"No self-hosted worker can be registered now: the provider {SELF_HOSTED} is {provider.status} "
            f"({provider.status_reason or 'no reason given'}), with {provider.places_taken} of {provider.max_workers} places "
            "taken."
        )
    connect_s = platform.settings.otp_ttl
    row = tx.row(
        "self_hosted_insert",
        id=worker_id,
        provider_id=SELF_HOSTED_PROVIDER_ID,
        worker_type=worker_type,
        connect_s=connect_s,
    )
    assert row is not None
    tx.execute(
        "token_insert",
        token_hash=token_hash(token),
        worker_id=worker_id,
        kind="one_time",
        ttl_s=connect_s,
    )
    tx.record("worker", worker_id, "WorkerCreated", {"job_id": None, "type": worker_type}, actor=actor)
    tx.after_commit(platform.providers.refresh)
    return worker_view(row) | {
        "token": token,
        "token_expires_at": row.created_at + timedelta(seconds=connect_s),
    }


def note_heard_of(platform: Platform, worker_id: UUID) -> dict[str, Any]:
    """Somebody says that a worker is there. Once its agent has registered, the agent's own word counts, and this changes nothing.

    Raises NotFound, and Conflict for a worker that has ended.
    """
    with platform.database.begin() as tx:
        tx.execute("self_hosted_heard_of", id=worker_id)
    worker = get_worker(platform, worker_id)
    if worker["state"] in (WorkerState.TERMINATING, WorkerState.TERMINATED):
        raise Conflict(f"The worker {worker_id} has ended: {worker['termination_reason']}. Register it anew.")
    return worker


def agent_left(platform: Platform, tx: Transaction, worker: Row, reason: str) -> None:
    """Its agent said goodbye. It may come back, unless somebody ended the worker: then that is done now."""
    if worker.state in (WorkerState.READY, WorkerState.CONNECTING):
        _away(tx, worker.id, f"the agent left: {reason}")
    tx.execute("worker_note_left", id=worker.id)
    if worker.state == WorkerState.TERMINATING:
        tx.after_commit(lambda: platform.courier.destroy(worker.id))


def agent_returned(platform: Platform, tx: Transaction, worker: Row, agent: dict[str, Any]) -> bool:
    """Its agent registers again, as a new process. What the one before had and did not report is recovered.

    False when the worker is on its way out: then it may not come back.
    """
    lost = tx.rows("executions_to_recover", worker_id=worker.id)
    where = agent.get("hostname") or "its host"
    failure = Failure(
        code="ERR_2003",
        message=f"The agent on {where} ended while the job ran there, and was started again (pid {agent.get('pid')}).",
    )
    for execution in lost:
        recover(platform, tx, worker, execution, failure)
    unreported = any(
        row.reported_at is None for row in tx.rows("execution_live_of_worker", worker_id=worker.id)
    )
    if tx.scalar("worker_set_returned", id=worker.id, agent=agent, lost=unreported) is None:
        destroy_worker(platform, tx, worker.id, reason="its agent ended while it was drained")
        return False
    payload = {"host": agent.get("hostname"), "interrupted_jobs": [str(row.job_id) for row in lost]}
    tx.record("worker", worker.id, "WorkerReturned", payload, actor="agent")
    return True


def note_absent(platform: Platform) -> int:
    """Workers without a job that fell silent are away; those whose token was not used in time are ended."""
    with platform.database.begin() as tx:
        never = tx.rows("self_hosted_never_started", limit=BATCH)
        for worker in never:
            destroy_worker(platform, tx, worker.id, reason=NEVER_STARTED)
        since: datetime | None = tx.scalar("reachable_since")
        if since is None:
            return len(never)  # no door is open: nobody can be blamed for silence
        lost_after_s = platform.settings.worker_lost_after
        silent = tx.rows("self_hosted_silent", reachable_since=since, lost_after_s=lost_after_s, limit=BATCH)
        for worker in silent:
            give_up_worker(platform, tx, worker.id, reason=f"nothing was heard of it for {lost_after_s:g} s")
    return len(never) + len(silent)


def _away(tx: Transaction, worker_id: UUID, reason: str) -> None:
    if tx.scalar("worker_set_away", id=worker_id) is not None:
        tx.record("worker", worker_id, "WorkerAway", {"reason": reason}, actor="agent")


def asks_for_one(spec: JobSpec) -> bool:
    """Whether a job may run on a self-hosted worker at all."""
    return spec.provider == SELF_HOSTED or (spec.provider == "auto" and TYPE_LABEL in spec.required_labels)


def what_is_missing(tx: Transaction, spec: JobSpec) -> str:
    """Why a job that asks for a self-hosted worker waits, in words."""
    worker_type = spec.required_labels.get(TYPE_LABEL)
    whom = "a self-hosted worker" + (f" of type {worker_type}" if worker_type else "")
    if spec.image is not None or spec.cpu is not None or spec.memory_bytes is not None:
        return f"It waits for {whom}, and asks for an image or limits, which those cannot give: it will never run there."
    known = tx.row("self_hosted_of_type", worker_type=worker_type)
    if known is None or not known.registered:
        return f"It waits for {whom}: none is registered. Register one: hodei worker register --type {worker_type or 'TYPE'}"
    if not known.connected:
        return f"It waits for {whom}: {known.registered} registered, none of them connected. Start an agent: hodei-agent"
    return f"It waits for {whom} to be free: {known.connected} connected, of {known.registered} registered."
