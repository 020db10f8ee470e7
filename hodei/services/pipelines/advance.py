"""Advancing a run: from what its jobs came to, to what starts, is skipped, or has ended. From facts alone, by whoever comes.

Each turn is one transaction under the run's row, a few statements for any number of nodes. Killed at any line, it has
done nothing or all of it; the next turn, of any process, goes on from what is stored.
"""

from __future__ import annotations

from uuid import UUID

import structlog

from hodei.domain.pipeline import RUN_TRANSITIONS, Needs, NodeState, RunState, When, end_of_run, verdict
from hodei.domain.states import sources
from hodei.ports import Platform
from hodei.services.cancel import request_cancel
from hodei.services.pipelines.submit_nodes import submit_ready
from hodei.services.pipelines.tell import ACTOR, tell_nodes
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

DECIDE_BATCH = 1000
ROUNDS = 50
"""So deep does one turn follow what is skipped because of what was skipped; the next turn goes on."""
CANCEL_BATCH = 20
MOST_TURNS = 1000
"""Of one message: the clock goes on with what is left."""


def told_to_advance(platform: Platform, tx: Transaction, run_id: UUID) -> None:
    """Have it looked at as soon as this transaction is committed."""
    tx.after_commit(lambda: platform.courier.advance(run_id))
    tx.after_commit(platform.courier.relay)


def advance_run(platform: Platform, run_id: UUID) -> int:
    """Do all that is to be done for the run now; how many turns that took. 0: nothing, or somebody else is at it."""
    for turn in range(MOST_TURNS):
        with platform.database.begin() as tx:
            run = tx.row("run_lock_if_free", id=run_id)
            if run is None or run.state != RunState.RUNNING or not _turn(platform, tx, run):
                return turn
            tx.after_commit(lambda: platform.wakeups.wake(f"run:{run_id}"))
            tx.after_commit(platform.courier.relay)
    return MOST_TURNS


def _turn(platform: Platform, tx: Transaction, run: Row) -> bool:
    """One turn under the run's row; False when nothing was to be done."""
    settled = [row.number for row in tx.rows("nodes_settle", run_id=run.id)]
    if settled:
        tx.execute("nodes_tell", run_id=run.id, numbers=settled)
    done = len(settled)
    if run.cancel_requested_at is not None:
        done += _cancel(platform, tx, run)
    done += _decide(tx, run)
    done += submit_ready(platform, tx, run)
    if not tx.scalar("run_is_open", run_id=run.id):
        done += _end(tx, run)
    return done > 0


def _cancel(platform: Platform, tx: Transaction, run: Row) -> int:
    """What has no job gets none; of the jobs that are going some more are cancelled, as any job is."""
    done = tx.execute("nodes_set_cancelled", run_id=run.id)
    for found in tx.rows("nodes_to_cancel", run_id=run.id, limit=CANCEL_BATCH):
        job = tx.row("job_lock", id=found.id)
        if job is not None and request_cancel(platform, tx, job, actor=ACTOR):
            done += 1
    return done


def _decide(tx: Transaction, run: Row) -> int:
    """Which of the waiting nodes may start, and which are skipped; and because of those others, round after round."""
    decided = 0
    for _ in range(ROUNDS):
        rows = tx.rows("nodes_to_decide", run_id=run.id, limit=DECIDE_BATCH)
        ready: list[int] = []
        skipped: list[tuple[Row, str]] = []
        for row in rows:
            needs = Needs(open=row.open_needs, failed=row.failed_needs, unsuccessful=row.unsuccessful_needs)
            if verdict(When(row.condition), needs) is NodeState.SKIPPED:
                skipped.append((row, _why_skipped(row)))
            else:
                ready.append(row.number)
        if ready:
            tx.execute("nodes_set_ready", run_id=run.id, numbers=ready)
        if skipped:
            _skip(tx, run, skipped)
        decided += len(rows)
        if not skipped and len(rows) < DECIDE_BATCH:
            break
    return decided


def _skip(tx: Transaction, run: Row, skipped: list[tuple[Row, str]]) -> None:
    numbers = [row.number for row, _ in skipped]
    reasons = [reason for _, reason in skipped]
    tx.execute("nodes_set_skipped", run_id=run.id, numbers=numbers, reasons=reasons)
    tx.execute("nodes_tell", run_id=run.id, numbers=numbers)
    tell_nodes(tx, run.id, "PipelineNodesSkipped", [(row.key, reason) for row, reason in skipped])


def _why_skipped(row: Row) -> str:
    if row.condition == When.FAILURE:
        return "It runs when one of its needs failed, and none did."
    more = row.unsuccessful_needs - len(row.culprits)
    others = f", and {more} more" if more > 0 else ""
    was = [culprit.rsplit(" ", 1) for culprit in row.culprits]
    words = ", ".join(f"{key} {'failed' if state == 'failed' else f'was {state}'}" for key, state in was)
    return f"Its needs did not all succeed: {words}{others}."


def _end(tx: Transaction, run: Row) -> int:
    counts = {row.state: row.nodes for row in tx.rows("nodes_count", run_id=run.id)}
    state = end_of_run(
        cancel_requested=run.cancel_requested_at is not None,
        failed=counts.get(NodeState.FAILED, 0),
        cancelled=counts.get(NodeState.CANCELLED, 0),
    )
    if not tx.execute(
        "run_set_ended", id=run.id, state=state.value, from_states=sources(RUN_TRANSITIONS, state)
    ):
        return 0
    payload = {"state": state.value} | {word.lower(): count for word, count in sorted(counts.items())}
    tx.record("pipeline_run", run.id, "PipelineRunEnded", payload, actor=ACTOR)
    tx.after_commit(lambda: log.info("pipeline_run.ended", run_id=str(run.id), state=state.value))
    return 1
