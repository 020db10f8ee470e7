"""One look at Postgres for all waiters of a process: what a lost wake-up costs is seconds, never an answer."""

from __future__ import annotations

from uuid import UUID

from hodei.storage.database import Database


def facts(database: Database, keys: list[str]) -> set[str]:
    """Of these wake-up keys, those whose fact is there already: an inbox with messages, a job or a run that has ended."""
    jobs = [UUID(key.removeprefix("job:")) for key in keys if key.startswith("job:")]
    runs = [UUID(key.removeprefix("run:")) for key in keys if key.startswith("run:")]
    found: set[str] = set()
    with database.glance() as tx:
        if any(key.startswith("inbox:") for key in keys):
            found |= {f"inbox:{row.worker_id}" for row in tx.rows("inboxes_with_messages")} & set(keys)
        if jobs:
            found |= {f"job:{row.id}" for row in tx.rows("read_job_states", ids=jobs)}
        if runs:
            found |= {f"run:{row.id}" for row in tx.rows("read_run_states", ids=runs)}
    return found
