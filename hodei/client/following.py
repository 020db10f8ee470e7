"""Waiting for a job and following its log, across retried attempts and a server that restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, TypeVar

from hodei.client.errors import ServerUnreachable
from hodei.client.shapes import Job, LogEntry, LogPage

PATIENCE_S = 60.0
WAIT_S = 30.0
LOG_WAIT_S = 20.0
LOOK_AGAIN_S = 0.5
RETRY_LOOK_S = 2.0
"""How often we look whether a job whose attempt ended is tried again; its end is seen at once."""
LOG_GRACE_S = 10.0
"""How long after a job's end we go on asking for a log that never says that it is complete."""

Answer = TypeVar("Answer")


class Platform(Protocol):
    """The part of the client that is used here."""

    def job(self, job_id: str, *, wait_s: float = 0.0) -> Job: ...

    def log_page(
        self, job_id: str, *, after: int = 0, attempt: int | None = None, wait_s: float = 0.0
    ) -> LogPage: ...


def wait(platform: Platform, job_id: str, *, patience_s: float) -> Job:
    """The job when it has ended. ServerUnreachable when nobody answered for ``patience_s``."""
    while True:
        asked_at = time.monotonic()
        job = patiently(partial(platform.job, job_id, wait_s=WAIT_S), patience_s=patience_s)
        if job.has_ended:
            return job
        _not_faster(asked_at)


def follow_log(
    platform: Platform, job_id: str, *, attempt: int = 0, after: int = 0, patience_s: float
) -> Iterator[LogEntry]:
    """Entries of each attempt in turn, until the job has ended and the last attempt's log is complete.

    An attempt's log is over when the server says so, or when nothing followed although, when we asked, the
    job had already ended with a complete log or a later attempt had begun.
    """
    over = False
    ended_at: float | None = None
    while True:
        asked_at = time.monotonic()
        ask = partial(platform.log_page, job_id, after=after, attempt=attempt or None, wait_s=LOG_WAIT_S)
        page = patiently(ask, patience_s=patience_s)
        if page.entries and not attempt:
            attempt = 1  # the answer is about the last attempt, which may be a later one by now
            if page.entries[0].attempt != attempt:
                continue
        yield from page.entries
        if page.entries:
            after, over = page.entries[-1].seq, False
            if not page.end:
                continue
        look = partial(platform.job, job_id, wait_s=RETRY_LOOK_S if page.end else 0.0)
        job = patiently(look, patience_s=patience_s)
        if job.attempts > attempt and (attempt == 0 or over or page.end):
            attempt, after, over, ended_at = attempt + 1, 0, False, None
            continue
        if job.has_ended:
            ended_at = ended_at or time.monotonic()
            if over or page.end or job.attempts == 0 or time.monotonic() - ended_at > LOG_GRACE_S:
                return
        over = job.attempts > attempt or (job.has_ended and job.log.complete)
        if not over:
            _not_faster(asked_at)


def patiently(ask: Callable[[], Answer], *, patience_s: float) -> Answer:
    """Asks again while the server is away, for ``patience_s`` since the first failure."""
    first_failure_at: float | None = None
    while True:
        try:
            return ask()
        except ServerUnreachable:
            now = time.monotonic()
            first_failure_at = first_failure_at or now
            if now - first_failure_at >= patience_s:
                raise
            time.sleep(min(1.0, patience_s))


def _not_faster(asked_at: float) -> None:
    """A server that does not hold its answers back is not asked more than twice a second."""
    time.sleep(max(0.0, LOOK_AGAIN_S - (time.monotonic() - asked_at)))
