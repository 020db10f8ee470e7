"""The times of cron expressions, compared minute by minute with what the rule says, where clocks are changed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodei.domain.schedule_times import moment_of, times_after
from hodei.errors import InvalidInput
from hodei.services.schedules.times import FORMS, describe_cron, read_cron, read_moment, read_zone, times_of

ZONES = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"),
    *(
        "America/St_Johns",
        "Africa/Cairo",
        "America/Santiago",
        "Asia/Beirut",
        "Europe/Dublin",
        "Asia/Kathmandu",
    ),
)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
YEARS = range(2009, 2031)
"""St John's changed its clocks at one minute past midnight until 2011."""


def local(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone)


@cache
def changes(name: str) -> list[datetime]:
    """The hours, in UTC, in which the clocks of a zone are changed."""
    zone, found = ZoneInfo(name), []
    moment, end = datetime(YEARS.start, 1, 1, tzinfo=UTC), datetime(YEARS.stop, 1, 1, tzinfo=UTC)
    while moment < end:
        if local(moment, zone).utcoffset() != local(moment + DAY, zone).utcoffset():
            hours = (moment + timedelta(hours=hour) for hour in range(24))
            found.append(
                next(
                    h
                    for h in hours
                    if local(h, zone).utcoffset() != local(h + timedelta(hours=1), zone).utcoffset()
                )
            )
        moment += DAY
    return found


def values(text: str, low: int, high: int) -> set[int]:
    """A field of an expression, read by the test itself: lists of ``*``, ``a``, ``a-b``, each with a step."""
    found: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, _, last = ("*" if span == "*" else span).partition("-")
        start = low if span == "*" else int(first)
        stop = high if span == "*" or (step and not last) else int(last or first)
        found |= set(range(start, stop + 1, int(step or 1)))
    return found


@cache
def sets(expression: str) -> list[set[int]]:
    bounds = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    return [values(text, low, high) for text, (low, high) in zip(expression.split(), bounds, strict=True)]


def names(expression: str, reading: datetime) -> bool:
    """Whether the expression names what a clock shows."""
    minutes, hours, days, months, weekdays = sets(expression)
    if reading.minute not in minutes or reading.hour not in hours or reading.month not in months:
        return False
    _, _, day, _, weekday = expression.split()
    of_month = reading.day in days
    of_week = bool({reading.isoweekday(), reading.isoweekday() % 7} & weekdays)
    either = not (day.startswith("*") or weekday.startswith("*"))
    return (of_month or of_week) if either else (of_month and of_week)


def oracle(expression: str, name: str, begin: datetime, end: datetime) -> list[datetime]:
    """Every minute looked at: which of them fire, by the rule as it is documented."""
    zone, fires = ZoneInfo(name), []
    minutes, hours, *_ = expression.split()
    wall = minutes.startswith("*") or hours.startswith("*")
    moment, before = begin, local(begin - MINUTE, zone).replace(tzinfo=None)
    while moment < end:
        shown = local(moment, zone)
        reading = shown.replace(tzinfo=None)
        if wall:
            fire = names(expression, reading)
        else:
            skipped = [before + n * MINUTE for n in range(1, int((reading - before) / MINUTE))]
            fire = (shown.fold == 0 and names(expression, reading)) or any(
                names(expression, s) for s in skipped
            )
        if fire:
            fires.append(moment)
        moment, before = moment + MINUTE, reading
    return fires


def found(expression: str, name: str, begin: datetime, end: datetime) -> list[datetime]:
    times = times_after(read_cron(expression), ZoneInfo(name), begin - timedelta(microseconds=1))
    return list(takewhile(lambda time: time < end, times))


def terms(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    single = number.map(str)
    span = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    step = st.tuples(st.one_of(st.just("*"), span, single), st.integers(1, high)).map(
        lambda two: f"{two[0]}/{two[1]}"
    )
    return st.one_of(st.just("*"), single, span, step)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    return st.lists(terms(low, high), min_size=1, max_size=3).map(",".join)


EXPRESSIONS = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(" ".join)
NIGHTS = st.tuples(field(0, 59), field(0, 4), st.just("* * *")).map(" ".join)
"""The hours in which clocks are changed."""


@st.composite
def windows(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone, and a time at most a day and a half before its clocks are changed."""
    name = draw(st.sampled_from(ZONES))
    change = draw(st.sampled_from(changes(name) or [datetime(2026, 3, 29, tzinfo=UTC)]))
    return name, change - draw(st.integers(0, 36 * 60)) * MINUTE


@settings(max_examples=300)
@given(st.one_of(NIGHTS, EXPRESSIONS), windows())
def test_the_times_are_those_of_the_rule_minute_by_minute(
    expression: str, window: tuple[str, datetime]
) -> None:
    name, begin = window
    end = begin + timedelta(days=2)
    try:
        times = found(expression, name, begin, end)
    except InvalidInput:
        assert oracle(expression, name, begin, end) == []  # a day that no month has
        return

    assert times == oracle(expression, name, begin, end)


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("expression", ["*/20 * * * *", "30 */2 * * *", "15,45 1-3 * * *", "0 0 * * *"])
def test_around_every_change_of_a_zone_the_times_are_those_of_the_rule(name: str, expression: str) -> None:
    for change in [c for c in changes(name) if c.year in (2011, 2026, 2027)]:
        begin, end = change - timedelta(hours=4), change + timedelta(hours=5)
        assert found(expression, name, begin, end) == oracle(expression, name, begin, end), change


@given(EXPRESSIONS, st.sampled_from(ZONES), st.integers(0, 5_000_000))
def test_times_do_not_depend_on_where_one_begins_to_ask(expression: str, name: str, minutes: int) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC) + minutes * MINUTE
    try:
        pattern = read_cron(expression)
    except InvalidInput:
        return
    times = list(islice(times_after(pattern, ZoneInfo(name), begin), 4))

    for before, after in pairwise(times):
        assert next(times_after(pattern, ZoneInfo(name), before)) == after
    assert times == sorted(set(times))
    assert describe_cron(expression, name)


def shown(expression: str, name: str, day: date, count: int) -> list[str]:
    begin = moment_of(datetime.combine(day, time()), ZoneInfo(name)) - timedelta(seconds=1)
    times = islice(times_after(read_cron(expression), ZoneInfo(name), begin), count)
    return [moment.astimezone(ZoneInfo(name)).strftime("%d %H:%M %z") for moment in times]


def test_a_time_of_day_that_is_skipped_fires_after_the_gap_and_one_that_is_repeated_once() -> None:
    assert shown("30 2 * * *", "Europe/Berlin", date(2026, 3, 28), 3) == [
        "28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200",
    ]  # fmt: skip
    assert shown("30 2 * * *", "Europe/Berlin", date(2026, 10, 24), 3) == [
        "24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100",
    ]  # fmt: skip
    assert shown("15 2 * * *", "Australia/Lord_Howe", date(2026, 10, 4), 1) == ["04 02:30 +1100"]


def test_an_expression_with_a_star_follows_the_clock_on_the_wall() -> None:
    assert shown("0 * * * *", "Europe/Berlin", date(2026, 3, 29), 3) == [
        "29 00:00 +0100", "29 01:00 +0100", "29 03:00 +0200",
    ]  # fmt: skip
    assert shown("30 */2 * * *", "Europe/Berlin", date(2026, 10, 25), 4) == [
        "25 00:30 +0200", "25 02:30 +0200", "25 02:30 +0100", "25 04:30 +0100",
    ]  # fmt: skip
    assert shown("45 * * * *", "Australia/Lord_Howe", date(2026, 4, 5), 4)[1:3] == [
        "05 01:45 +1100", "05 01:45 +1030",
    ]  # fmt: skip


def test_several_times_in_one_gap_are_one_firing() -> None:
    assert shown("0,20,40 2 * * *", "Europe/Berlin", date(2026, 3, 29), 2) == [
        "29 03:00 +0200",
        "30 02:00 +0200",
    ]


def test_what_comes_every_28_years_comes() -> None:
    times = times_after(read_cron("0 0 29 2 */7"), ZoneInfo("UTC"), datetime(2026, 1, 1, tzinfo=UTC))

    assert [time.year for time in islice(times, 2)] == [2032, 2060]


@pytest.mark.parametrize("form", FORMS)
def test_the_short_forms_are_what_they_stand_for(form: str) -> None:
    begin = datetime(2026, 5, 5, 5, 5, tzinfo=UTC)

    short, long = (
        islice(times_after(read_cron(text), ZoneInfo("UTC"), begin), 3)
        for text in (form.upper(), FORMS[form])
    )

    assert list(short) == list(long)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 25 * * *", "'25' is not an hour: it takes 0 to 23"),
        ("60 * * * *", "'60' is not a minute"),
        ("0 0 0 * *", "'0' is not a day of the month"),
        ("0 0 * 13 *", "'13' is not a month"),
        ("0 0 * * FRI-MON", "ranges from low to high"),
        ("*/0 * * * *", "'*/0' is not a minute"),
        ("0 0 31 2 *", "no month that it names has a day '31'"),
        ("0 0 * *", "month, day of the week), such as 30 2 * * MON-FRI; this one has 4"),
        ("0 0 * * * *", "this one has 6"),
        ("", "this one has 0"),
        ("@reboot", "there is no '@reboot'. The forms are @hourly, @daily"),
        (f"{'1,' * 200}1 * * * *", "longer than 200 characters"),
        ("² * * * *", "cron is written in ASCII"),
        ("* * * * ſun", "cron is written in ASCII"),
        ("0 0\n* * *", "with blanks or tabs between its fields"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_expression_is_said_in_words(text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_cron(text)

    assert words in refused.value.message
    assert refused.value.field == "cron"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Europe/Berln", "Did you mean Europe/Berlin?"),
        ("europe/berlin", "Did you mean Europe/Berlin?"),
        ("../../etc/passwd", "There is no time zone"),
        ("America", "There is no time zone"),
        ("Factory", "There is no time zone"),
        ("localtime", "There is no time zone"),
        ("xyzzy42", "Zones are named as Europe/Berlin, or UTC."),
    ],
)
def test_a_zone_that_is_none_is_refused_with_one_that_is(name: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=r"There is no time zone") as refused:
        read_zone(name)

    assert words in refused.value.message


def test_a_single_time_without_an_offset_is_read_in_the_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    assert read_moment("2026-07-01T12:00", berlin, "at") == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert read_moment("2026-07-01T12:00:00Z", berlin, "at") == datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert read_moment("2026-03-29T02:30", berlin, "at") == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert read_moment("2026-10-25T02:30", berlin, "at") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    for text in ("2026-02-30T12:00", "20260701T120000", "2026-W01-1", "2026-07-01 12:00", "yesterday", ""):
        with pytest.raises(InvalidInput, match="is not a time such as 2026-05-01T12:00:00Z"):
            read_moment(text, berlin, "at")


def test_a_schedules_times_keep_to_its_start_and_end() -> None:
    timing = {
        "cron": "0 12 * * *", "schedule_time": None, "timezone": "UTC",
        "start_at": datetime(2026, 5, 2, 12, tzinfo=UTC), "end_at": datetime(2026, 5, 4, 12, tzinfo=UTC),
    }  # fmt: skip

    assert [time.day for time in times_of(timing, datetime(2026, 1, 1, tzinfo=UTC))] == [2, 3, 4]
