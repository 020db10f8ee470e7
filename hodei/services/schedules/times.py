"""What people write of times, read: cron expressions, zones, moments; and a schedule's times in their order."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field

from hodei.domain.schedule_times import Pattern, moment_of, times_after
from hodei.errors import InvalidInput

FORMS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MAX_CRON_CHARACTERS = 200
CRON_PATTERN = r"^[ \t]*(@[A-Za-z]+|[!-?A-~][!-~]*([ \t]+[!-~]+){4})[ \t]*$"
MOMENT_PATTERN = (
    r"^2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?$"
)
"""RFC 3339, the offset left out or not; Python's own reading takes more."""
PARTS = (
    ("minute", Field.MINUTE, "0 to 59"),
    ("hour", Field.HOUR, "0 to 23"),
    ("day of the month", Field.DAY, "1 to 31, L for the last day, LW for the last weekday"),
    ("month", Field.MONTH, "1 to 12, or JAN to DEC"),
    ("day of the week", Field.DOW, "0 to 7, or SUN to SAT; 5L is the last Friday, 5#2 the second"),
)
NO_ZONES = frozenset({"Factory", "localtime"})
"""In the system's folder of zones, and none."""
MOMENT = timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def read_cron(text: str) -> Pattern:
    """The expression, read. Raises InvalidInput with what is wrong with which of its fields."""
    sim = _simulated(text)
    parts = _expression(text).upper().split()
    return Pattern(
        minutes=tuple(sorted(sim.minutes)),
        hours=tuple(sorted(sim.hours)),
        months=frozenset(sim.months),
        names_day=sim.match_day,
        follows_clock=parts[0].startswith("*") or parts[1].startswith("*"),
    )


def describe_cron(text: str, zone: str) -> str:
    """The expression in words: ``At 02:00 every day (Europe/Berlin)``."""
    return f"{_simulated(text).explain()} ({zone})"


def _expression(text: str) -> str:
    return FORMS.get(text.strip().lower(), text.strip())


def _simulated(text: str) -> CronSim:
    expression = _expression(text)
    if expression.startswith("@"):
        known = ", ".join(FORMS)
        raise InvalidInput(f"cron: there is no {expression!r}. The forms are {known}.", field="cron")
    parts = expression.upper().split()
    if len(parts) != len(PARTS) or len(expression) > MAX_CRON_CHARACTERS:
        raise InvalidInput(
            "cron has five fields (minute, hour, day of the month, month, day of the week), such as 30 2 * * MON-FRI; "
            f"this one has {len(parts)}." if len(parts) != len(PARTS)
            else f"cron is longer than {MAX_CRON_CHARACTERS} characters.",
            field="cron",
        )  # fmt: skip
    if not re.fullmatch(CRON_PATTERN, text):
        raise InvalidInput("cron is written in ASCII, with blanks or tabs between its fields.", field="cron")
    read = []
    for part, (name, field, range_of) in zip(parts, PARTS, strict=True):
        try:
            field.parse(part)
            read.append(",".join(_without_idle_step(term, field) for term in part.split(",")))
        except CronSimError:
            raise InvalidInput(
                f"cron: {part!r} is not {'an' if name == 'hour' else 'a'} {name}: it takes {range_of}; lists (1,15), "
                "ranges from low to high (1-5), steps (*/5), or *.",
                field="cron",
            ) from None
    try:
        return CronSim(" ".join(read), datetime.now(UTC))
    except CronSimError:
        raise InvalidInput(
            f"cron: no month that it names has a day {parts[2]!r}: it would never fire.", field="cron"
        ) from None


def _without_idle_step(term: str, field: Field) -> str:
    """``3-3/2`` is 3 alone; the library takes a range of one with a step for all from there on, as ``3/2`` is."""
    span, slash, _ = term.partition("/")
    return span if slash and "-" in span and len(field.parse(span)) == 1 else term


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) - NO_ZONES


def read_zone(name: str) -> ZoneInfo:
    """The IANA time zone of this name, as this machine's data have it. Raises InvalidInput."""
    if name not in _zones():
        folded = {zone.lower(): zone for zone in _zones()}
        near = difflib.get_close_matches(name.lower(), folded, n=1)
        hint = f" Did you mean {folded[near[0]]}?" if near else " Zones are named as Europe/Berlin, or UTC."
        raise InvalidInput(f"There is no time zone {name!r}.{hint}", field="timezone")
    return ZoneInfo(name)


def read_moment(text: str, zone: ZoneInfo, field: str) -> datetime:
    """A time as RFC 3339 has it, in UTC; without an offset it is what a clock in the zone shows, by the rule for single times.

    To the millisecond. Raises InvalidInput.
    """
    try:
        if not re.fullmatch(MOMENT_PATTERN, text):
            raise ValueError(text)
        given = datetime.fromisoformat(text)
        moment = moment_of(given, zone) if given.tzinfo is None else given.astimezone(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{field}: {text!r} is not a time such as 2026-05-01T12:00:00Z, or 2026-05-01T12:00 in the schedule's zone.",
            field=field,
        ) from None


def times_of(schedule: dict[str, Any], after: datetime) -> Iterator[datetime]:
    """A schedule's nominal times later than ``after``, in order, within its start and end."""
    start, end, at = schedule["start_at"], schedule["end_at"], schedule["schedule_time"]
    if at is not None:
        if at > after:
            yield at
        return
    first = after if start is None else max(after, start - MOMENT)
    for time in times_after(read_cron(schedule["cron"]), read_zone(schedule["timezone"]), first):
        if end is not None and time > end:
            return
        yield time


def describe(schedule: dict[str, Any]) -> str:
    """When it fires, in words."""
    if schedule["schedule_time"] is not None:
        local = schedule["schedule_time"].astimezone(read_zone(schedule["timezone"]))
        return f"Once, at {local:%Y-%m-%d %H:%M:%S} ({schedule['timezone']})"
    return describe_cron(schedule["cron"], schedule["timezone"])
