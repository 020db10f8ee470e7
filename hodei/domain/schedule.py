"""What a schedule is, and what becomes of the times that it names; :mod:`hodei.domain.schedule_times` says which those are.

A *nominal time* is one that the schedule names. It fires at most once: its firing is a row whose key it is.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

LATE_AFTER_S = 60.0
"""A firing that comes later than this after its due time was missed, and catch-up says what becomes of it: one beat of
the finest cron expression, and more than a restart of the clock takes."""
MAX_WAITING = 100
"""How many firings of one schedule may wait for the one before them; further ones are skipped."""
MAX_CATCH_UP = 1000


class ScheduleState(StrEnum):
    """Whether a schedule fires. An ACTIVE one has a next time, the others have none."""

    ACTIVE = "ACTIVE"  # made by create, resume, and by a change of an ENDED one's times
    PAUSED = "PAUSED"  # by pause, by the clock after too many failures in a row; left through resume
    ENDED = "ENDED"  # by the clock, when no further time comes

    @property
    def word(self) -> str:
        """The ``status`` that people see."""
        return {"ACTIVE": "scheduled", "PAUSED": "paused", "ENDED": "ended"}[self.value]


class Overlap(StrEnum):
    """What happens at a time at which a run of the same schedule is still going."""

    SKIP = "skip"  # nothing, and an event says so
    QUEUE = "queue"  # the run is made and waits, held, for those before it
    REPLACE = "replace"  # what is going is cancelled; the run starts when nothing of that lives any more
    ALLOW = "allow"  # both run


class CatchUp(StrEnum):
    """What becomes of times that were missed because no clock ran."""

    NONE = "none"
    LAST = "last"  # one run makes up for all
    ALL = "all"  # each is made up for, up to a number: the latest ones


class FiringKind(StrEnum):
    """Why it fired."""

    TIME = "time"
    TRIGGER = "trigger"  # somebody asked for it


class FiringOutcome(StrEnum):
    """What a time came to."""

    FIRED = "fired"  # there is a job
    SKIPPED = "skipped"  # there is none, and a reason


class Act(StrEnum):
    """How a firing is done."""

    START = "start"
    WAIT = "wait"
    REPLACE = "replace"
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Of the times that came due: those that fire, in order; how many do not, and from when to when those were."""

    fire: tuple[datetime, ...] = ()
    missed: int = 0
    first_missed: datetime | None = None
    last_missed: datetime | None = None


def choose(
    times: Iterable[datetime],
    *,
    schedule_id: UUID,
    jitter_s: float,
    now: datetime,
    catch_up: CatchUp,
    limit: int,
) -> Chosen:
    """Which of these times, which came in this order and are all due, fire now.

    Those that are not late all do. Of the late ones none does with NONE; with LAST the latest, unless there is one that
    is not late; with ALL the latest ``limit``.
    """
    keep = {CatchUp.NONE: 0, CatchUp.LAST: 1, CatchUp.ALL: limit}[catch_up]
    late: deque[datetime] = deque()
    in_time: list[datetime] = []
    missed, first, last = 0, None, None
    for time in times:
        if (now - due_at(schedule_id, time, jitter_s)).total_seconds() <= LATE_AFTER_S:
            in_time.append(time)
            continue
        late.append(time)
        if len(late) > keep:
            missed, last = missed + 1, late.popleft()
            first = first or last
    if catch_up is CatchUp.LAST and in_time and late:
        missed, last = missed + 1, late.pop()
        first = first or last
    return Chosen(fire=(*late, *in_time), missed=missed, first_missed=first, last_missed=last)


def jitter(schedule_id: UUID, time: datetime, jitter_s: float) -> float:
    """By how many seconds this time is put off: from 0 to below ``jitter_s``, the same whoever asks and however often."""
    if not jitter_s:
        return 0.0
    digest = hashlib.sha256(f"{schedule_id}:{time.timestamp():.6f}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * jitter_s


def due_at(schedule_id: UUID, time: datetime, jitter_s: float) -> datetime:
    """When the firing of this nominal time is due."""
    return time + timedelta(seconds=jitter(schedule_id, time, jitter_s))


def act(overlap: Overlap, *, live: int, waiting: int) -> Act:
    """How a firing is done while ``live`` jobs of the schedule have not ended, ``waiting`` of them held back."""
    if overlap is Overlap.ALLOW or not live:
        return Act.START
    if overlap is Overlap.QUEUE:
        return Act.WAIT if waiting < MAX_WAITING else Act.SKIP
    return Act.REPLACE if overlap is Overlap.REPLACE else Act.SKIP


def failures_after(failures: int, ends: Iterable[str | None]) -> int:
    """How many runs failed in a row, after these ended as jobs do, in this order.

    A cancelled one counts as neither, nor does one that was deleted (None).
    """
    for end in ends:
        if end == "SUCCEEDED":
            failures = 0
        elif end in ("FAILED", "TIMEOUT"):
            failures += 1
    return failures
