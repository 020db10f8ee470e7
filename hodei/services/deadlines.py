"""The time-outs that an agent enforces, enforced by the clock when the agent is gone."""

from __future__ import annotations

from hodei.domain.ids import saga_id
from hodei.ports import Platform
from hodei.sagas.registry import engine
from hodei.sagas.timeout import silence_limit_s

MARGIN_S = 15.0
"""How long after time-out and grace an agent may take to bring its result."""
BATCH = 100


def start_timeouts(platform: Platform) -> int:
    """Start the TIMEOUT of every attempt that ran out of its time while its agent was silent; return how many.

    An agent that can be heard enforces its time-outs itself, to the millisecond. Nobody is silent while no door is open.
    """
    with platform.database.begin() as tx:
        since = tx.scalar("reachable_since")
        if since is None:
            return 0
        overdue = tx.rows(
            "executions_past_their_time",
            margin_s=MARGIN_S,
            run_silent_s=silence_limit_s(platform.settings, "run"),
            idle_silent_s=silence_limit_s(platform.settings, "idle"),
            reachable_since=since,
            limit=BATCH,
        )
        return sum(
            engine(platform).start(
                tx,
                "TIMEOUT",
                saga_id=saga_id("TIMEOUT", row.job_id, row.attempt, row.overtaken_before),
                subject_id=row.id,
                correlation_id=row.job_id,
                actor="clock",
                metadata={
                    "job_id": str(row.job_id),
                    "attempt": row.attempt,
                    "worker_id": str(row.worker_id),
                    "kind": row.kind,
                },
            )
            for row in overdue
        )
