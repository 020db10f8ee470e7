"""What all followers of a process share: one look at Postgres for all of them, and each log's newest part once.

A follower waits in memory and holds no connection. One thread looks at the jobs that are followed: those that were woken
at once, all of them every second, so that a lost wake-up costs a second. The thread ends when nobody follows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from hodei.domain.states import EXECUTION_LIVE, JobState
from hodei.errors import HodeiError
from hodei.logs.chunks import Log
from hodei.logs.window import Window
from hodei.storage.database import Database
from hodei.storage.transaction import Row

if TYPE_CHECKING:
    from hodei.ports import Wakeups

LOOK_EVERY_S = 1.0
PACE_PER_FOLLOWER_S = 0.001
"""A log with many followers is told to them less often: waking all of them must leave room for everything else."""
SLOWEST_PACE_S = 0.25
TOLD_AT_ONCE = 10
BETWEEN_S = 0.004
IDLE_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt and how much of its log is stored."""

    number: int
    log: Log
    log_bytes: int
    log_complete: bool
    state: str

    @property
    def is_over(self) -> bool:
        return self.state not in EXECUTION_LIVE


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What followers of a job go by."""

    state: JobState
    exit_code: int | None
    error_code: str | None
    error_message: str | None
    attempts: tuple[Attempt, ...]

    def attempt(self, number: int) -> Attempt | None:
        return next((attempt for attempt in self.attempts if attempt.number == number), None)

    def next_attempt(self, number: int) -> Attempt | None:
        """The first attempt above this number."""
        return next((attempt for attempt in self.attempts if attempt.number > number), None)


class Feed:
    """One job's news."""

    def __init__(self) -> None:
        self.followers = 0
        self.told_at = 0.0
        self._facts: Facts | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._windows: dict[int, Window] = {}

    def wait(self, known: Facts | None, timeout_s: float) -> Facts | None:
        """The facts as soon as they are others than those known, or as they are after ``timeout_s``.

        None only when nothing could be found out yet.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._facts is not known, timeout_s)
            return self._facts

    def pause(self, duration_s: float) -> None:
        """Wait so long, whatever is told meanwhile; shorter only when everybody is to go."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing, duration_s)

    def tell(self, facts: Facts) -> None:
        """Have everybody know: a few at a time, so that what else the process does comes in between."""
        with self._changed:
            if facts == self._facts:
                return
            self._facts = facts
        for told in range(0, self.followers, TOLD_AT_ONCE):
            if told:
                time.sleep(BETWEEN_S)
            with self._changed:
                self._changed.notify(TOLD_AT_ONCE)

    def close(self) -> None:
        """Let everybody go."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def window(self, attempt: int) -> Window:
        """The attempt's newest part, for all followers of it."""
        with self._changed:
            if attempt not in self._windows:
                self._windows = {  # whoever still reads an attempt before the last has its own reference
                    number: window for number, window in self._windows.items() if number > attempt - 2
                }
            return self._windows.setdefault(attempt, Window(attempt))

    @property
    def pace_s(self) -> float:
        """The shortest time between two tellings."""
        return min(SLOWEST_PACE_S, self.followers * PACE_PER_FOLLOWER_S)


class Feeds:
    """The feeds of a process, made when the first follower comes and gone with the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._feeds: dict[UUID, Feed] = {}
        self._due: dict[UUID, float] = {}
        self._stirred = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def following(self, database: Database, wakeups: Wakeups, job_id: UUID) -> Iterator[Feed]:
        """The job's feed, for as long as the block lasts."""
        with wakeups.tell(f"log:{job_id}", lambda: self._hear(job_id)):
            with self._lock:
                feed = self._feeds.setdefault(job_id, Feed())
                feed.followers += 1
                self._due.setdefault(job_id, 0.0)
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, args=(database, wakeups), name="log feeds", daemon=True
                    )
                    self._thread.start()
            self._stirred.set()
            try:
                yield feed
            finally:
                with self._lock:
                    feed.followers -= 1
                    if not feed.followers:
                        del self._feeds[job_id]
                        self._due.pop(job_id, None)

    def _hear(self, job_id: UUID) -> None:
        with self._lock:
            feed = self._feeds.get(job_id)
            if feed is None or job_id in self._due:
                return
            self._due[job_id] = feed.told_at + feed.pace_s
        self._stirred.set()

    def _run(self, database: Database, wakeups: Wakeups) -> None:
        look_at_all, idle_since = time.monotonic() + LOOK_EVERY_S, None
        while not wakeups.closing:
            now = time.monotonic()
            with self._lock:
                if not self._feeds:
                    idle_since = idle_since or now
                    if now - idle_since > IDLE_S:
                        self._thread = None
                        return
                else:
                    idle_since = None
                if now >= look_at_all:
                    due = list(self._feeds)
                    look_at_all = now + LOOK_EVERY_S
                else:
                    due = [job_id for job_id, at in self._due.items() if at <= now]
                for job_id in due:
                    self._due.pop(job_id, None)
                    if job_id in self._feeds:
                        self._feeds[job_id].told_at = now
                upcoming = min(self._due.values(), default=look_at_all)
            if due:
                self._look(database, due)
                continue
            self._stirred.wait(max(0.0, min(upcoming, look_at_all) - now))
            self._stirred.clear()
        with self._lock:
            self._thread = None
            for feed in self._feeds.values():
                feed.close()

    def _look(self, database: Database, job_ids: list[UUID]) -> None:
        try:
            found = look(database, job_ids)
        except HodeiError as error:
            log.warning("log_feeds.not_looked", reason=error.message)
            return
        except Exception:
            log.exception("log_feeds.not_looked")
            return
        with self._lock:
            told = [(self._feeds[job_id], facts) for job_id, facts in found.items() if job_id in self._feeds]
        for feed, facts in told:
            feed.tell(facts)


def look(database: Database, job_ids: list[UUID]) -> dict[UUID, Facts]:
    """The facts about these jobs, with one look; jobs that are not there are left out."""
    by_job: dict[UUID, list[Row]] = {}
    with database.glance() as tx:
        for row in tx.rows("log_states", ids=job_ids):
            by_job.setdefault(row.job_id, []).append(row)
    return {job_id: _facts(rows) for job_id, rows in by_job.items()}


def _facts(rows: list[Row]) -> Facts:
    job = rows[0]
    return Facts(
        state=JobState(job.job_state),
        exit_code=job.exit_code,
        error_code=job.error_code,
        error_message=job.error_message,
        attempts=tuple(
            Attempt(
                number=row.attempt,
                log=Log(execution_id=row.execution_id, day=row.log_day, entries=row.log_entries),
                log_bytes=row.log_bytes,
                log_complete=row.log_complete,
                state=row.state,
            )
            for row in rows
            if row.execution_id is not None
        ),
    )
