"""What agents ask and tell. Every call is bound to one worker by its session token, and to one attempt by its fence."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from hodei_agent import frames
from hodei_agent.protocol import PROTOCOL_VERSION

from hodei.domain.ids import new_id
from hodei.domain.job import JobSpec, assignment_command
from hodei.domain.states import WorkerState
from hodei.errors import Conflict, InvalidInput, NotFound, StaleAttempt, Unauthorized, UpgradeRequired
from hodei.logs import store
from hodei.ports import Platform, same, token_hash
from hodei.sagas.registry import engine
from hodei.services import dispatch
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

POLL_S = 25.0
UNKNOWN_SESSION = "This session is not known: its worker has ended, or was never registered here."
LOOK_EVERY_S = POLL_S
"""A waiting inbox is not looked at by itself: the wake-ups' sweep looks at all of a process at once."""


@dataclass(frozen=True, kw_only=True)
class AgentIdentity:
    """Who calls: the worker that the session token is bound to."""

    worker_id: UUID
    provider_id: UUID | None = None
    session_hash: bytes = field(default=b"", repr=False)


def register(
    platform: Platform, worker_id: UUID, one_time_token: str, registration: dict[str, Any]
) -> dict[str, Any]:
    """Exchange the one-time token for the agent's session. Idempotent for the same session token.

    Raises Unauthorized for a token that is wrong, used, expired, or another worker's, and an event says so;
    UpgradeRequired for a newer protocol.
    """
    if registration["protocol"] > PROTOCOL_VERSION:
        raise UpgradeRequired()
    session_hash = token_hash(registration["session_token"])
    with platform.database.begin() as tx:
        tx.row("worker_lock", id=worker_id)  # before its token, as everybody does who ends a worker
        reason = _spend(tx, worker_id, token_hash(one_time_token), session_hash)
        if reason is None:
            agent = {name: value for name, value in registration.items() if name != "session_token"}
            if not tx.execute("worker_set_registered", id=worker_id, agent=agent):
                reason = "the worker is being ended"
        if reason is None:
            worker = tx.row("worker_get", id=worker_id)
            assert worker is not None
            return _session(platform, worker)
    _refused(platform, worker_id, reason)
    raise Unauthorized(f"This worker was not registered: {reason}.")


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


class Sessions:
    """Session tokens seen lately, so that a call does not cost a look-up.

    An entry is trusted for a few seconds after a look at the database: its own, or a heartbeat that found the worker.
    """

    TRUSTED_FOR_S = 5.0
    LARGEST = 20_000

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[float, AgentIdentity]] = {}

    def find(self, platform: Platform, session_token: str) -> AgentIdentity:
        """Whose session it is. Raises Unauthorized."""
        hashed = hashlib.sha256(session_token.encode()).digest()
        seen = self._seen.get(hashed)
        if seen is not None and seen[0] > time.monotonic():
            return seen[1]
        with platform.database.begin() as tx:
            row = tx.row("session_find", token_hash=hashed)
        if row is None:
            self._seen.pop(hashed, None)
            raise Unauthorized(UNKNOWN_SESSION)
        if len(self._seen) >= self.LARGEST:
            self._seen.clear()
        identity = AgentIdentity(worker_id=row.worker_id, provider_id=row.provider_id, session_hash=hashed)
        self._seen[hashed] = (time.monotonic() + self.TRUSTED_FOR_S, identity)
        return identity

    def found(self, agent: AgentIdentity, interval_s: float) -> None:
        """A heartbeat found the worker: the session is trusted until after its next one."""
        if agent.session_hash:
            self._seen[agent.session_hash] = (
                time.monotonic() + interval_s + self.TRUSTED_FOR_S,
                agent,
            )

    def forget(self, agent: AgentIdentity) -> None:
        """The worker has ended: nobody is trusted with its session."""
        self._seen.pop(agent.session_hash, None)


_sessions = Sessions()


def authenticate(platform: Platform, session_token: str) -> AgentIdentity:
    """Whose session this is. Raises Unauthorized."""
    return _sessions.find(platform, session_token)


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


def _execution(tx: Transaction, agent: AgentIdentity, execution_id: UUID, fence: int) -> Row:
    """The execution, locked. Raises NotFound when it is not this worker's, StaleAttempt when it was superseded."""
    execution = tx.row("execution_for_agent", id=execution_id, worker_id=agent.worker_id)
    if execution is None:
        raise NotFound(f"There is no execution {execution_id} of this worker.")
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
    return {"lease_s": platform.settings.lease_s}


def store_frames(
    platform: Platform, agent: AgentIdentity, execution_id: UUID, fence: int, body: bytes
) -> int:
    """Store log frames; return the highest one up to which all are stored. Sending one again changes nothing."""
    try:
        received = frames.split(body)
        with platform.database.begin() as tx:
            execution = _execution(tx, agent, execution_id, fence)
            acknowledged = store.append(tx, execution, received)
            job_id = execution.job_id
            if execution.reported_at is not None and execution.live:  # the result was quicker than its log
                engine(platform).wake(tx, "EXECUTION", execution.saga_id, "CompleteJob")
            tx.after_commit(lambda: platform.wakeups.wake(f"log:{job_id}"))
    except frames.FrameError as error:
        raise InvalidInput(f"These are not log frames: {error}.") from error
    return acknowledged


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


def heartbeat(platform: Platform, agent: AgentIdentity, beat: dict[str, Any]) -> dict[str, Any]:
    """Renew the agent's lease, keep its measures, and name the executions that were superseded.

    Raises Unauthorized when the worker has ended.
    """
    usage = {name: value for name, value in beat.items() if name != "executions"}
    ids = [item["id"] for item in beat.get("executions", [])]
    with platform.database.begin() as tx:
        seen = tx.row("heartbeat", id=agent.worker_id, usage=usage, execution_ids=ids)
    if seen is None:
        _sessions.forget(agent)
        raise Unauthorized(UNKNOWN_SESSION)
    _sessions.found(agent, platform.settings.heartbeat_interval)
    return {"lease_s": platform.settings.lease_s, "stale": seen.superseded}


def goodbye(platform: Platform, agent: AgentIdentity, reason: str) -> dict[str, Any]:
    """The agent is leaving: what is left of its worker is destroyed. Raises Conflict while it has an unreported job."""
    with platform.database.begin() as tx:
        worker = tx.row("worker_lock", id=agent.worker_id)
        if worker is None:
            raise NotFound("There is no such worker.")
        if any(row.reported_at is None for row in tx.rows("execution_live_of_worker", worker_id=worker.id)):
            raise Conflict("This worker still has a job that was not reported.")
        if worker.state in (WorkerState.READY, WorkerState.DRAINING) and tx.scalar(
            "worker_set_terminating", id=worker.id, destroy_in_s=0.0, reason=f"the agent left: {reason}"
        ):
            tx.after_commit(lambda: platform.courier.destroy(worker.id))
    return {}
