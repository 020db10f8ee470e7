"""For how long a worker's silence is its own."""

from __future__ import annotations

from hodei.storage.transaction import Row, Transaction


def blamed_silence_s(tx: Transaction, worker: Row) -> float:
    """Since when the worker could have spoken and did not; ``worker`` as ``worker_silence`` gives it.

    Our own downtime is nobody's silence: it counts from when agents could last reach us, and not at all while no door is open.
    A lease runs on all the same: for that the whole silence counts.
    """
    reachable_since = tx.scalar("reachable_since")
    if reachable_since is None or worker.last_heartbeat is None:
        return 0.0
    return float((tx.scalar("now") - max(worker.last_heartbeat, reachable_since)).total_seconds())
