"""One look at Postgres for all waiters of a process: what a lost wake-up costs is seconds, never an answer."""

from __future__ import annotations

from uuid import UUID

from hodei.storage.database import Database


def facts(database: Database, keys: list[str]) -> set[str]:
    """Of these wake-up keys, those whose fact is there already: an inbox with messages, a job that has ended."""
    waiting: dict[str, list[UUID]] = {"inbox": [], "job": []}
    for key in keys:
        kind, _, row_id = key.partition(":")
        if kind in waiting:
            waiting[kind].append(UUID(row_id))
    found: set[str] = set()
    with database.glance() as tx:
        if waiting["inbox"]:
            rows = tx.rows("inboxes_with_messages", ids=waiting["inbox"])
            found |= {f"inbox:{row.worker_id}" for row in rows}
        if waiting["job"]:
            found |= {f"job:{row.id}" for row in tx.rows("read_job_states", ids=waiting["job"])}
    return found
