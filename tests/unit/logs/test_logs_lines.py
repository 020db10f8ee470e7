"""Lines that are stored as several entries: wanted, counted and given as what they are."""

from __future__ import annotations

from itertools import groupby, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei.logs import lines
from hodei.logs.chunks import Entry
from hodei.logs.lines import BEGINNING, LastLines, Lines, Start, going_on
from hodei.logs.selection import Selection

PART = st.sampled_from([b"a", b"b", b"ab", b"a\n", b"b\n", b"\n", b"aB\n", b"\xc3", b"\xa9", b"\xa9\n"])
LOG = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), PART), max_size=30)
SELECTIONS = st.sampled_from(
    [
        Selection(),
        Selection(grep="ab"),
        Selection(grep="AB", ignore_case=True),
        Selection(grep="\u00c9", ignore_case=True),
        Selection(grep="aa", stream="stdout"),
        Selection(grep="b", since_us=5),
    ]
)


def entries_of(log: list[tuple[str, bytes]]) -> list[Entry]:
    return [Entry(seq, stream, seq, data) for seq, (stream, data) in enumerate(log, 1)]


def lines_in(entries: list[Entry], selection: Selection) -> list[list[Entry]]:
    """The wanted lines, done slowly: those of each stream, by where they begin."""
    found = []
    for stream in ("stdout", "stderr"):
        own, ended = [entry for entry in entries if entry.stream == stream and selection.admits(entry)], 0
        numbers = {}
        for entry in own:
            numbers[entry.seq] = ended
            ended += not entry.partial
        for _, group in groupby(own, key=lambda entry: numbers[entry.seq]):
            line = list(group)
            if selection.matches(b"".join(entry.data for entry in line)):
                found.append(line)
    return sorted(found, key=lambda line: line[0].seq)


def in_order(wanted: list[list[Entry]]) -> list[Entry]:
    return sorted(entry for line in wanted for entry in line)


@given(LOG, SELECTIONS, st.integers(0, 30))
def test_lines_are_wanted_whole_and_their_entries_come_in_order(
    log: list[tuple[str, bytes]], selection: Selection, cut: int
) -> None:
    entries, chosen = entries_of(log), Lines(selection, BEGINNING)

    first = list(chosen.of(entries[:cut]))
    place = chosen.place(len(entries[:cut]))
    given = first + list(chosen.of(entries[cut:])) + list(chosen.rest())

    assert given == in_order(lines_in(entries, selection))
    assert all(entry.seq <= place for entry in first)
    assert all(entry.seq > place for entry in given[len(first) :])


@given(LOG, SELECTIONS)
def test_after_each_entry_that_was_got_come_those_that_were_not(
    log: list[tuple[str, bytes]], selection: Selection
) -> None:
    entries = entries_of(log)
    wanted = in_order(lines_in(entries, selection))

    for number, got in enumerate(wanted, 1):
        chosen = Lines(selection, going_on(reversed(entries[: got.seq]), got.seq, selection))
        assert [*chosen.of(entries[got.seq :]), *chosen.rest()] == wanted[number:]


@given(LOG, SELECTIONS, st.integers(1, 10))
def test_the_last_lines_are_those_that_begin_last(
    log: list[tuple[str, bytes]], selection: Selection, count: int
) -> None:
    entries, last = entries_of(log), LastLines(selection, count, end=len(log))

    start = (
        next((found for entry in reversed(entries) if (found := last.add(entry))), None) or last.all_seen()
    )
    rest = entries[start.after :]
    chosen = Lines(selection, start)
    given = [*chosen.of(rest), *chosen.rest()]

    assert given == in_order(lines_in(entries, selection)[-count:])


def test_an_endless_line_is_looked_at_in_parts_and_goes_on_once_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given
    monkeypatch.setattr(lines, "LINE_BYTES", 1000)
    chosen = Lines(Selection(grep="needle"), BEGINNING)
    dots = [Entry(seq, "stdout", seq, b".") for seq in range(1, 101)]
    across = [Entry(101, "stdout", 101, b"nee"), Entry(102, "stdout", 102, b"dle")]

    # then nothing is kept of what is too long ago, and the text is found where it is
    assert list(chosen.of(dots)) == []
    assert len(chosen._held) < 15
    assert list(chosen.of(across))[-2:] == across
    later = [Entry(103, "stdout", 103, b"x" * 5000), Entry(104, "stdout", 104, b"end\n")]
    assert list(chosen.of([later[0]])) == [later[0]]
    assert list(chosen.of([later[1], Entry(105, "stdout", 105, b"other\n")])) == [later[1]]


def test_what_waits_behind_a_line_that_does_not_end_comes_when_it_has_waited_for_long_enough() -> None:
    chosen = Lines(Selection(grep="error"), BEGINNING)
    asked, error = Entry(1, "stdout", 1, b"Continue? "), Entry(2, "stderr", 2, b"error\n")

    assert list(chosen.of([asked])) == []
    assert not chosen.holds_up
    assert list(chosen.of([error])) == []
    assert chosen.holds_up
    assert list(chosen.rest()) == [error]


def test_the_end_of_a_log_does_not_look_for_a_line_of_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES", 1000)
    entries = [Entry(1, "stderr", 1, b"begin\n")]
    entries += [Entry(seq, "stdout", seq, b"x\n") for seq in range(2, 1000)]
    entries += [Entry(1000, "stderr", 1000, b"end\n")]
    last = LastLines(Selection(), 1, end=1000)

    looked_at = list(takewhile(lambda entry: last.add(entry) != Start(999), reversed(entries)))

    assert 0 < len(looked_at) < 20
