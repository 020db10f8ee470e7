"""What a run's events tell of many nodes at once."""

from __future__ import annotations

from uuid import UUID

from hodei.storage.transaction import Transaction

ACTOR = "pipeline"
MOST_TOLD = 100


def tell_nodes(tx: Transaction, run_id: UUID, event_type: str, nodes: list[tuple[str, str]]) -> None:
    """One event for all of these nodes, each with its reason; the first :data:`MOST_TOLD` of them are named."""
    named = [{"node": key, "reason": reason} for key, reason in nodes[:MOST_TOLD]]
    tx.record("pipeline_run", run_id, event_type, {"count": len(nodes), "nodes": named}, actor=ACTOR)
