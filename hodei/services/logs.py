"""Reading logs: the same for a running job and for one that ended long ago, from any process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from hodei.domain.states import EXECUTION_LIVE, JobState
from hodei.errors import LogExpired, NotFound
from hodei.logs import store
from hodei.logs.chunks import Entry, Log
from hodei.logs.lines import Start
from hodei.logs.selection import EVERYTHING, Selection
from hodei.ports import Platform
from hodei.storage.transaction import Transaction

NO_LIMIT = 2**62


@dataclass(frozen=True, kw_only=True)
class Which:
    """Whose log: a job's (without ``attempt`` its last one's) or an execution's."""

    job_id: UUID | None = None
    execution_id: UUID | None = None
    attempt: int | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """What of it: entries above ``after``, or of those the last ``tail`` lines; of these the first ``limit`` entries."""

    after: int = 0
    tail: int | None = None
    limit: int = NO_LIMIT
    selection: Selection = field(default=EVERYTHING)


@dataclass(frozen=True, kw_only=True)
class View:
    """A log as it was when it was looked at. ``log`` None: the job has no attempt yet, and ``ended`` if it never will."""

    job_id: UUID
    job_name: str = ""
    attempt: int = 0
    log: Log | None = None
    ended: bool = False
    complete: bool = False

    @property
    def count(self) -> int:
        """How many entries there are."""
        return 0 if self.log is None else self.log.entries


def find(platform: Platform, which: Which, part: Part | None = None, *, wait_s: float = 0.0) -> View:
    """The log that is meant. Raises NotFound, or LogExpired when it is kept no longer.

    With ``wait_s``, waits for an entry above ``part.after``, or for the attempt's end, holding no connection.
    """
    view = _find(platform, which)
    if wait_s <= 0 or part is None or view.ended or view.count > part.after:
        return view
    give_up = time.monotonic() + wait_s
    with ExitStack() as stack:
        feed = stack.enter_context(platform.feeds.following(platform.database, platform.wakeups, view.job_id))
        facts = feed.wait(None, wait_s)
        while True:
            view = _find(platform, which)
            remaining = give_up - time.monotonic()
            if view.ended or view.count > part.after or remaining <= 0 or platform.wakeups.closing:
                return view
            facts = feed.wait(facts, remaining)


def _find(platform: Platform, which: Which) -> View:
    with platform.database.glance() as tx:
        row = tx.row(
            "log_find",
            job_id=which.job_id,
            execution_id=which.execution_id,
            attempt=which.attempt,
            retention_s=platform.settings.log_retention,
        )
        if row is None:
            return _without_attempt(tx, which)
    if row.expired:
        raise LogExpired(
            f"The log of attempt {row.attempt} of job {row.job_id} has expired. HODEI_LOG_RETENTION says how long "
            "logs are kept."
        )
    return View(
        job_id=row.job_id,
        job_name=row.job_name,
        attempt=row.attempt,
        log=Log.of(row),
        ended=row.state not in EXECUTION_LIVE,
        complete=row.log_complete,
    )


def _without_attempt(tx: Transaction, which: Which) -> View:
    if which.job_id is None:
        asked_for = tx.row("read_promised_execution", id=which.execution_id)
        if asked_for is None:
            raise NotFound(f"There is no execution {which.execution_id}.")
        ended = JobState(asked_for.state).is_terminal
        return View(job_id=asked_for.job_id, attempt=asked_for.attempt, ended=ended, complete=True)
    job = tx.row("read_job_state", id=which.job_id)
    if job is None:
        raise NotFound(f"There is no job {which.job_id}. List them with: hodei job list")
    if which.attempt is not None:
        raise NotFound(f"Job {which.job_id} has no attempt {which.attempt}.")
    return View(job_id=which.job_id, ended=JobState(job.state).is_terminal, complete=True)


def entries(platform: Platform, view: View, part: Part) -> Iterator[Entry]:
    """The entries, one by one as they are asked for: never more than a batch of them is in memory."""
    if view.log is None:
        return
    begin = start(platform, view.log, part)
    if begin.after < view.log.entries:
        found = store.entries(platform.database, view.log, start=begin, selection=part.selection)
        yield from islice(found, part.limit)


def pieces(platform: Platform, view: View, part: Part) -> Iterator[tuple[str, bytes]]:
    """Stream and bytes, as they were written; line by line only where the part asks for it."""
    if view.log is None:
        return
    if part.limit < NO_LIMIT:
        yield from ((entry.stream, entry.data) for entry in entries(platform, view, part))
        return
    begin = start(platform, view.log, part)
    if begin.after < view.log.entries:
        yield from store.pieces(platform.database, view.log, start=begin, selection=part.selection)


def start(platform: Platform, log: Log, part: Part) -> Start:
    """Where the part begins."""
    if part.tail is not None:
        tail = store.start_of_tail(platform.database, log, part.tail, part.selection)
        if tail.after >= part.after:
            return tail
    return store.start_after(platform.database, log, part.after, part.selection)
