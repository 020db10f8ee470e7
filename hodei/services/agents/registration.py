"""The one-time token's one use: the worker's agent gets a session."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from hodei_agent.protocol import PROTOCOL_VERSION

from hodei.domain.ids import new_id
from hodei.domain.self_hosted import SELF_HOSTED
from hodei.domain.states import WorkerState
from hodei.errors import Unauthorized, UpgradeRequired
from hodei.observability.context import about_job
from hodei.ports import Platform, same, token_hash
from hodei.services import self_hosted
from hodei.services.agents.inbox import POLL_S
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)


def register(
    platform: Platform, worker_id: UUID, one_time_token: str, registration: dict[str, Any]
) -> dict[str, Any]:
    """Exchange the one-time token for the agent's session. Idempotent for the same session token, with which a self-hosted
    worker's agent comes back after a restart.

    Raises Unauthorized for a token that is wrong, used, expired, or another worker's, and an event says so;
    UpgradeRequired for a newer protocol.
    """
    if registration["protocol"] > PROTOCOL_VERSION:
        raise UpgradeRequired()
    session_hash = token_hash(registration["session_token"])
    with platform.database.begin() as tx:
        before = tx.row("worker_lock", id=worker_id)  # before its token, as everybody does who ends a worker
        if before is not None and before.reserved_for is not None:
            about_job(before.reserved_for, worker_id=worker_id)
        reason = _spend(tx, worker_id, token_hash(one_time_token), session_hash)
        if reason is None:
            agent = {name: value for name, value in registration.items() if name != "session_token"}
            if not _write(platform, tx, before, worker_id, agent):
                reason = "the worker is being ended"
        if reason is None:
            worker = tx.row("worker_get", id=worker_id)
            assert worker is not None
            return _session(platform, worker)
    # what was recovered stays recovered, also when the worker itself may not come back
    _refused(platform, worker_id, reason)
    raise Unauthorized(f"This worker was not registered: {reason}.")


def _write(
    platform: Platform, tx: Transaction, before: Row | None, worker_id: UUID, agent: dict[str, Any]
) -> bool:
    """Note the agent; False when the worker is being ended. A self-hosted worker's may be another process than the one before."""
    if before is not None and before.provider_type == SELF_HOSTED and _is_another(before, agent):
        return self_hosted.agent_returned(platform, tx, before, agent)
    return bool(tx.execute("worker_set_registered", id=worker_id, agent=agent))


def _is_another(before: Row, agent: dict[str, Any]) -> bool:
    """Whether it is not the process that registered before, but one after it."""
    away = before.registered_at is None
    return bool(before.agent) and (away or before.agent.get("instance") != agent.get("instance"))


def _spend(tx: Transaction, worker_id: UUID, hashed: bytes, session_hash: bytes) -> str | None:
    """Spend the token; None when it was good, else the reason."""
    token = tx.row("token_lock", token_hash=hashed)
    if token is None or token.kind != "one_time":
        return "the token is not one of ours"
    if token.worker_id != worker_id:
        return "the token is another worker's"
    if token.used_at is not None:
        if same(token.session_hash, session_hash):
            return None
        return "the token was used before"
    if token.expired:
        return "the token has expired"
    if token.worker_state in (WorkerState.TERMINATING, WorkerState.TERMINATED):
        return "the worker is being ended"
    tx.execute("token_spend", token_hash=hashed, session_hash=session_hash)
    tx.execute("token_insert", token_hash=session_hash, worker_id=worker_id, kind="session", ttl_s=None)
    tx.record("worker", worker_id, "WorkerRegistered", {}, actor="agent")
    return None


def _refused(platform: Platform, worker_id: UUID, reason: str) -> None:
    log.warning("agent.registration_refused", worker_id=str(worker_id), reason=reason)
    with platform.database.begin() as tx:
        payload = {"reason": reason}
        if tx.row("worker_get", id=worker_id) is not None:
            tx.record("worker", worker_id, "WorkerRegistrationRefused", payload, actor="agent")
        else:
            tx.execute(
                "event_record_refused_registration",
                id=new_id(),
                aggregate_id=worker_id,
                actor="agent",
                payload=payload,
            )


def _session(platform: Platform, worker: Row) -> dict[str, Any]:
    settings = platform.settings
    return {
        "worker_id": str(worker.id),
        "heartbeat_interval_s": settings.heartbeat_interval,
        "lease_s": settings.lease_s,
        "poll_s": POLL_S,
        "max_jobs": worker.max_jobs,
        "log": {"spool_bytes": settings.log_spool_bytes, "max_bytes": settings.log_max_bytes},
    }
