"""For how long a worker's silence is its own."""

from __future__ import annotations

from datetime import datetime, timedelta

from hodei.storage.transaction import Row, Transaction

LOOK_AGAIN = timedelta(seconds=5)
"""How soon it is looked again whether a door is open."""


def blamed_silence_s(tx: Transaction, worker: Row) -> float:
    """Since when the worker could have spoken and did not; ``worker`` as ``worker_silence`` gives it.

    Our own downtime is nobody's silence: it counts from when agents could last reach us, and not at all while no door is open.
    A lease runs on all the same: for that the whole silence counts.
    """
    reachable_since = tx.scalar("reachable_since")
    if reachable_since is None or worker.last_heartbeat is None:
        return 0.0
    return float((tx.scalar("now") - max(worker.last_heartbeat, reachable_since)).total_seconds())


def awaits_answer_until(
    tx: Transaction, *, now: datetime, since: datetime, within_s: float, latest: datetime
) -> datetime | None:
    """Until when to wait for what a worker could have said since ``since``; None when it is late.

    After a downtime of ours it has the whole of ``within_s`` again, and while no door is open nobody is late; but nobody is
    waited for after ``latest``, so that what can never be reached ends, too.
    """
    reachable_since: datetime | None = tx.scalar("reachable_since")
    if reachable_since is None:
        until = min(latest, now + LOOK_AGAIN)
    else:
        until = min(latest, max(since, reachable_since) + timedelta(seconds=within_s))
    return until if now < until else None
