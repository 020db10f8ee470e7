"""That a worker lives, and that it leaves."""

from __future__ import annotations

from typing import Any

from hodei.domain.self_hosted import SELF_HOSTED
from hodei.domain.states import WorkerState
from hodei.errors import Conflict, NotFound, Unauthorized
from hodei.ports import Platform
from hodei.services import self_hosted
from hodei.services.agents.heartbeats import heartbeats
from hodei.services.agents.sessions import UNKNOWN_SESSION, AgentIdentity, sessions


def heartbeat(platform: Platform, agent: AgentIdentity, beat: dict[str, Any]) -> dict[str, Any]:
    """Renew the agent's lease, keep its measures, and name the executions that were superseded.

    Raises Unauthorized when the worker has ended.
    """
    usage = {name: value for name, value in beat.items() if name != "executions"}
    ids = [item["id"] for item in beat.get("executions", [])]
    superseded = heartbeats.beat(platform.database, agent.worker_id, usage, ids)
    if superseded is None:
        sessions.forget(agent)
        raise Unauthorized(UNKNOWN_SESSION)
    sessions.found(agent, platform.settings.heartbeat_interval)
    return {"lease_s": platform.settings.lease_s, "stale": superseded}


def goodbye(platform: Platform, agent: AgentIdentity, reason: str) -> dict[str, Any]:
    """The agent is leaving: what is left of its worker is destroyed. Raises Conflict while it has an unreported job."""
    with platform.database.begin() as tx:
        worker = tx.row("worker_lock", id=agent.worker_id)
        if worker is None:
            raise NotFound("There is no such worker.")
        if any(row.reported_at is None for row in tx.rows("execution_live_of_worker", worker_id=worker.id)):
            raise Conflict("This worker still has a job that was not reported.")
        if worker.provider_type == SELF_HOSTED:
            self_hosted.agent_left(platform, tx, worker, reason)
            sessions.forget(agent)
            return {}
        if worker.state in (WorkerState.READY, WorkerState.DRAINING) and tx.scalar(
            "worker_set_terminating", id=worker.id, destroy_in_s=0.0, reason=f"the agent left: {reason}"
        ):
            tx.after_commit(lambda: platform.courier.destroy(worker.id))
    return {}
