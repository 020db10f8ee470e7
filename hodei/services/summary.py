"""The platform in numbers."""

from __future__ import annotations

from typing import Any

from hodei.domain.states import JobState
from hodei.ports import Platform


def summary(platform: Platform) -> dict[str, Any]:
    """Jobs, workers, sagas and the queue, counted now. Ended jobs: those created in the last day."""
    with platform.database.begin() as tx:
        open_jobs = tx.rows("summary_open_jobs")
        ended = tx.rows("summary_ended_jobs")
        workers = tx.rows("summary_workers")
        sagas = tx.rows("summary_sagas")
        outbox = tx.row("outbox_age")
        waiting = tx.row("job_next_due")
        cleanup = tx.row("cleanup_counts")
    jobs = {state.value.lower(): 0 for state in JobState}
    jobs |= {row.state.lower(): row.jobs for row in [*open_jobs, *ended]}
    return {
        "jobs": jobs,
        "cleanup": dict(cleanup) if cleanup else {"workers_removed": 0, "workers_left": 0, "jobs_reset": 0},
        "oldest_s": {row.state.lower(): float(row.oldest_s) for row in open_jobs},
        "queue": {
            "depth": waiting.waiting if waiting else 0,
            "oldest": waiting.oldest if waiting else None,
        },
        "workers": {row.state.lower(): row.workers for row in workers},
        "sagas": {row.state.lower(): row.sagas for row in sagas},
        "outbox": {
            "pending": outbox.pending if outbox else 0,
            "oldest_s": float(outbox.oldest_s) if outbox and outbox.oldest_s is not None else None,
        },
    }
