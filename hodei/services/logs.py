"""Reading logs: the same for a running job and for one that ended long ago, from any process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

from hodei.domain.states import EXECUTION_LIVE, JobState
from hodei.errors import NotFound
from hodei.logs import store
from hodei.ports import Platform
from hodei.storage.transaction import Row, Transaction

LOOK_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """A part of a log. ``ended``: nothing follows these entries in this attempt."""

    entries: list[dict[str, Any]]
    ended: bool
    attempt: int
    execution_id: UUID | None


def read_entries(
    platform: Platform,
    *,
    job_id: UUID | None = None,
    execution_id: UUID | None = None,
    attempt: int | None = None,
    after: int = 0,
    limit: int = 1000,
    wait_s: float = 0.0,
) -> LogPage:
    """The entries above ``after``. With ``wait_s``, waits for one, or for the attempt's end, holding no connection."""
    give_up = time.monotonic() + wait_s
    if job_id is None:
        named = _execution(platform, job_id=None, execution_id=execution_id, attempt=None)
        job_id = named.job_id if named else None
    with platform.wakeups.listen(f"log:{job_id}") as ear:
        while True:
            row = _execution(platform, job_id=job_id, execution_id=execution_id, attempt=attempt)
            page = _page(platform, row, after, limit)
            if row is None and job_id is not None and _ended_without_attempt(platform, job_id):
                return LogPage(entries=[], ended=True, attempt=0, execution_id=None)
            remaining = give_up - time.monotonic()
            if page.entries or page.ended or remaining <= 0 or platform.wakeups.closing:
                return page
            ear.wait(min(remaining, LOOK_EVERY_S))


def _page(platform: Platform, row: Row | None, after: int, limit: int) -> LogPage:
    if row is None:
        return LogPage(entries=[], ended=False, attempt=0, execution_id=None)
    found = []
    if row.log_entries > after:
        found = [
            _entry(entry, row.attempt)
            for entry in islice(store.entries(platform.database, row.id, after=after), limit)
        ]
    last = found[-1]["seq"] if found else after
    over = row.state not in EXECUTION_LIVE
    return LogPage(
        entries=found, ended=over and last >= row.log_entries, attempt=row.attempt, execution_id=row.id
    )


def _entry(entry: store.Entry, attempt: int) -> dict[str, Any]:
    shown = {
        "seq": entry.seq,
        "attempt": attempt,
        "stream": entry.stream,
        "at": datetime.fromtimestamp(entry.at_us / 1e6, UTC),
        "text": entry.data.removesuffix(b"\n").decode("utf-8", "replace"),
    }
    if entry.partial:
        shown["partial"] = True
    return shown


def read_text(
    platform: Platform,
    *,
    job_id: UUID | None = None,
    execution_id: UUID | None = None,
    attempt: int | None = None,
    stream: str | None = None,
) -> Iterator[bytes]:
    """The bytes as they were written so far. Raises NotFound before the first of them."""
    row = _execution(platform, job_id=job_id, execution_id=execution_id, attempt=attempt)
    return iter(()) if row is None else store.raw(platform.database, row.id, stream=stream)


def _execution(
    platform: Platform, *, job_id: UUID | None, execution_id: UUID | None, attempt: int | None
) -> Row | None:
    """The execution that is meant, or None for a job that has not been assigned yet."""
    with platform.database.glance() as tx:
        row = tx.row("read_log_execution", job_id=job_id, execution_id=execution_id, attempt=attempt)
        if row is None:
            _explain_absence(tx, job_id, execution_id, attempt)
    return row


def _explain_absence(
    tx: Transaction, job_id: UUID | None, execution_id: UUID | None, attempt: int | None
) -> None:
    if job_id is None:
        raise NotFound(f"There is no execution {execution_id}.")
    job = tx.row("read_job_state", id=job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
    if attempt is not None:
        raise NotFound(f"Job {job_id} has no attempt {attempt}.")


def _ended_without_attempt(platform: Platform, job_id: UUID) -> bool:
    with platform.database.glance() as tx:
        job = tx.row("read_job_state", id=job_id)
    return job is not None and JobState(job.state).is_terminal
