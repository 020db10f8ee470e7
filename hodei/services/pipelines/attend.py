"""What the clock does for runs: it finds those of which a message got lost. Any number of clocks may."""

from __future__ import annotations

from uuid import UUID

import structlog

from hodei.ports import Platform
from hodei.services.pipelines.advance import advance_run

log = structlog.get_logger(__name__)

BATCH = 100


def attend_runs(platform: Platform) -> int:
    """Advance every run for which something is to be done; how many were advanced.

    One that fails holds up no other, and is tried again at the next round.
    """
    seen: list[UUID] = []
    advanced = 0
    while True:
        with platform.database.glance() as tx:
            found = [row.id for row in tx.rows("runs_to_attend", limit=BATCH, seen=seen)]
        for run_id in found:
            try:
                advanced += advance_run(platform, run_id) > 0
            except Exception:
                log.exception("pipeline_run.failed", run_id=str(run_id))
        seen += found
        if len(found) < BATCH:
            return advanced
