"""A job at each point of its life, for tests that end it there; and the agent's part, call by call."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hodei.services import agents, cancel, repair
from support.core import Core, result


class AgentOf:
    """The agent of the worker that has the job's current attempt."""

    def __init__(self, core: Core, worker_id: UUID) -> None:
        self.core = core
        self.identity = agents.AgentIdentity(worker_id=worker_id)
        given = core.assigned(worker_id)
        self.execution_id, self.fence = UUID(given["execution_id"]), given["fence"]

    def accept(self) -> None:
        agents.accept(self.core.platform, self.identity, self.execution_id, self.fence)

    def started(self) -> None:
        agents.started(self.core.platform, self.identity, self.execution_id, self.fence, pid=1, at_us=1)

    def report(self, exit_code: int | None = 0, **more: Any) -> None:
        said = result(exit_code, **more) | {"fence": self.fence}
        agents.report_result(self.core.platform, self.identity, self.execution_id, self.fence, said)

    def messages(self) -> list[dict[str, Any]]:
        return agents.poll_inbox(self.core.platform, self.identity, 0, 0)

    def cancels(self) -> list[dict[str, Any]]:
        return [message for message in self.messages() if message["kind"] == "cancel"]


def running(core: Core, **spec: Any) -> tuple[UUID, UUID, AgentOf]:
    """A job that its agent has started: (job, worker, agent). The provider ``here`` must be there."""
    job_id, worker_id = core.to_running_worker("here", **spec)
    agent = AgentOf(core, worker_id)
    agent.accept()
    agent.started()
    core.drain()
    return job_id, worker_id, agent


def ask(core: Core, job_id: UUID) -> dict[str, Any]:
    return cancel.cancel_job(core.platform, job_id, actor="test")


CANCELLED = {
    "exit_code": 143,
    "signal": 15,
    "outcome": "cancelled",
    "error_code": None,
    "error_message": None,
}


def pass_time(core: Core, seconds: float, *, wish: bool = False) -> None:
    """As if that long had passed for what sagas wait for and workers were heard of; ``wish``: since the cancel, too."""
    shift = f"interval '{seconds} s'"
    core.sql(f"UPDATE sagas SET nudge_after = nudge_after - {shift}, waiting_until = waiting_until - {shift}")
    core.sql(f"UPDATE workers SET last_heartbeat = last_heartbeat - {shift}")
    if wish:
        core.sql(f"UPDATE jobs SET cancel_requested_at = cancel_requested_at - {shift}")
        core.sql(
            "UPDATE sagas SET metadata = jsonb_set(metadata, '{requested_at}', to_jsonb(to_char("
            f" (metadata ->> 'requested_at')::timestamptz - {shift}, 'YYYY-MM-DD\"T\"HH24:MI:SS.USOF')))"
            " WHERE saga_type = 'CANCELLATION'"
        )


def settle(core: Core) -> None:
    """All messages are handled, and the clock looks at what waits."""
    for _ in range(4):
        core.drain()
        core.sql("UPDATE sagas SET nudge_after = clock_timestamp() WHERE completed_at IS NULL")
        repair.nudge_sagas(core.platform)
    core.drain()


def saga_states(core: Core, job_id: UUID) -> dict[str, str]:
    """Saga type → state of the job's last saga of it."""
    return {row.saga_type: row.state for row in core.sagas(job_id)}
