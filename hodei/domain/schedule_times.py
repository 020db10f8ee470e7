"""The times that a cron expression names in a time zone, with the rule for hours that summer time skips or repeats.

An expression whose minutes or hours begin with ``*`` follows the clock on the wall: it fires at each minute whose reading
it names. A reading that is skipped does not come, one that is repeated comes twice. Any other expression names times of
the day: each fires once on its day. One that is skipped fires at the first minute after the gap, one that is repeated at
its first coming. Where several come to the same moment they are one. It is what Debian's cron does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

LONGEST_REPEAT = timedelta(hours=4)
"""No clock has been put back by more in our time (three hours, at Casey in Antarctica)."""
HORIZON_YEARS = 50
"""An expression that names no time for so long names none. The rarest ones, such as a 29th of February that is a
Monday, come every 28 years, or 40 where a century is no leap year."""
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A cron expression, read. ``follows_clock``: its minutes or hours begin with ``*``."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    names_day: Callable[[date], bool]
    follows_clock: bool


def times_after(pattern: Pattern, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """The moments that the pattern names in this zone, later than ``after``, in order, in UTC.

    They are made as they are asked for. It ends when none has come for :data:`HORIZON_YEARS`, or with the calendar.
    """
    found: list[datetime] = []
    last = after
    begin = (after.astimezone(zone) - LONGEST_REPEAT).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    for hour in _hours(pattern, begin):
        # What is read at this hour or later does not come before this: all earlier moments are known now.
        bound = moment_of(hour, zone)
        while found and found[0] < bound:
            moment = heapq.heappop(found)
            if moment > last:
                last = moment
                yield moment
        if hour.year > last.year + HORIZON_YEARS:
            return
        for moment in _moments(pattern, hour, zone):
            heapq.heappush(found, moment)
    while found:
        moment = heapq.heappop(found)
        if moment > last:
            last = moment
            yield moment


def moment_of(reading: datetime, zone: tzinfo) -> datetime:
    """When a clock in this zone first shows this reading, in UTC; for one that is skipped, the end of the gap."""
    first = reading.replace(tzinfo=zone, fold=0)
    moment = first.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == reading:
        return moment
    # In a gap: fold 0 has the offset from before it, fold 1 the one from after it; the gap ends between the two.
    before = reading.replace(tzinfo=zone, fold=1).astimezone(UTC)
    old = before.astimezone(zone).utcoffset()
    while moment - before > SECOND:
        middle = before + (moment - before) // 2
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            moment = middle
    return moment.replace(microsecond=0)


def _hours(pattern: Pattern, begin: datetime) -> Iterator[datetime]:
    """The readings of full hours that the pattern names, from ``begin`` on, up to the calendar's end."""
    day = begin.date()
    while True:
        if day.month in pattern.months and pattern.names_day(day):
            for hour in pattern.hours:
                reading = datetime.combine(day, time(hour))
                if reading >= begin:
                    yield reading
        elif day.day == 1:  # at least once a month, so that a pattern without any time comes to its horizon
            yield datetime.combine(day, time())
        if day >= date(date.max.year - 1, 12, 31):
            return
        day += timedelta(days=1)


def _moments(pattern: Pattern, hour: datetime, zone: tzinfo) -> Iterator[datetime]:
    if hour.hour not in pattern.hours or not (
        hour.month in pattern.months and pattern.names_day(hour.date())
    ):
        return
    if _is_plain(hour, zone):
        start = hour.replace(tzinfo=zone).astimezone(UTC)
        yield from (start + minute * MINUTE for minute in pattern.minutes)
        return
    for minute in pattern.minutes:
        reading = hour.replace(minute=minute)
        if pattern.follows_clock:
            yield from _comings(reading, zone)
        else:
            yield moment_of(reading, zone)


def _is_plain(hour: datetime, zone: tzinfo) -> bool:
    """Whether no clock is changed within this hour's readings: its ends are each read once, by the same offset."""
    ends = (hour, hour + HOUR - SECOND)
    return len({end.replace(tzinfo=zone, fold=fold).utcoffset() for end in ends for fold in (0, 1)}) == 1


def _comings(reading: datetime, zone: tzinfo) -> Iterator[datetime]:
    """When this reading comes: once, twice, or never."""
    moments = {reading.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    yield from (moment for moment in moments if moment.astimezone(zone).replace(tzinfo=None) == reading)
