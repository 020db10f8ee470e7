"""Lines out of entries: one that was written with pauses, or is long, is stored as several.

A line is what one stream wrote up to a newline: a run of ``partial`` entries and the one that ends it. The other
stream's entries may lie between. It is seen as one as long as no more than LINE_BYTES of output lie between its
beginning and its end; what goes on after that counts as a line of its own. So an endless line needs no endless memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import NamedTuple

from hodei.logs.chunks import Entry
from hodei.logs.selection import Selection

LINE_BYTES = 1024 * 1024
ENTRY_BYTES = 100
"""What an entry counts for besides its bytes: a line may be made of a million dots."""


class _Line:
    """A line that goes on. ``wanted`` None: as far as it is known, the text is not in it."""

    __slots__ = ("begun_at", "end", "wanted")

    def __init__(self, begun_at: int, *, wanted: bool | None = None, end: bytes = b"") -> None:
        self.begun_at = begun_at
        self.wanted = wanted
        self.end = end

    def look(self, data: bytes, selection: Selection) -> None:
        """Look for the text in what is added, and across where it is added."""
        data = self.end + data
        if selection.matches(data):
            self.wanted = True
        else:
            self.end = data[-selection.reach_bytes :]


class Start(NamedTuple):
    """After which entry a part of a log begins, and which streams are in a line there: is its rest a part of it too?

    ``undecided``: that depends on the rest, and on these bytes before it.
    """

    after: int
    wanted: frozenset[str] = frozenset()
    unwanted: frozenset[str] = frozenset()
    undecided: frozenset[tuple[str, bytes]] = frozenset()


BEGINNING = Start(0)


class Lines:
    """The entries of the lines that are wanted, in order. What comes after an undecided line waits for it."""

    def __init__(self, selection: Selection, start: Start) -> None:
        self._selection = selection
        self._open = {stream: _Line(0, wanted=True) for stream in start.wanted}
        self._open |= {stream: _Line(0, wanted=False) for stream in start.unwanted}
        self._open |= {stream: _Line(0, end=end) for stream, end in start.undecided}
        self._held: deque[tuple[Entry, _Line]] = deque()
        self._read_bytes = 0

    def of(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """What can be given after these entries, each of which is given here or later, or not wanted."""
        matches, is_open = self._selection.matches, self._open
        for entry in self._selection.admitted(entries):
            if is_open or not entry.data.endswith(b"\n"):
                yield from self._join(entry)
            elif matches(entry.data):
                yield entry

    def rest(self) -> Iterator[Entry]:
        """What is held, the undecided lines taken as they are. They may go on, as lines of their own."""
        for stream in self._open:
            self._part(stream)
        yield from self._decided()

    def place(self, seq: int) -> int:
        """Up to where all is decided of what was read up to ``seq``: whoever goes on after it misses nothing."""
        return self._held[0][0].seq - 1 if self._held else seq

    @property
    def holds_up(self) -> bool:
        """Whether entries that are wanted wait for an undecided line."""
        return any(line.wanted for _, line in self._held)

    def _join(self, entry: Entry) -> Iterator[Entry]:
        line = self._open.get(entry.stream) or _Line(self._read_bytes)
        self._read_bytes += len(entry.data) + ENTRY_BYTES
        if line.wanted is None:
            line.look(entry.data, self._selection)
        if entry.partial:
            self._open[entry.stream] = line
        else:
            self._open.pop(entry.stream, None)
            line.wanted = bool(line.wanted)
        if line.wanted is not False:
            self._held.append((entry, line))
        for stream, other in self._open.items():
            if self._read_bytes - other.begun_at > LINE_BYTES:
                self._part(stream)
        yield from self._decided()

    def _part(self, stream: str) -> None:
        """The stream's line, if it is undecided, has been long enough."""
        line = self._open[stream]
        if line.wanted is None:
            line.wanted = False
            self._open[stream] = _Line(self._read_bytes, end=line.end)

    def _decided(self) -> Iterator[Entry]:
        while self._held and self._held[0][1].wanted is not None:
            entry, line = self._held.popleft()
            if line.wanted:
                yield entry


def going_on(newest_first: Iterable[Entry], after: int, selection: Selection) -> Start:
    """For going on after an entry that was got, from it and those before it: of a line that was wanted the rest is wanted."""
    context = _in_open_lines(newest_first, selection)
    lines = Lines(selection, BEGINNING)
    list(lines.of(context))
    states = {stream: line.wanted for stream, line in lines._open.items()}
    if context and context[-1].stream in states:
        states[context[-1].stream] = True
    return Start(
        after,
        wanted=frozenset(stream for stream, wanted in states.items() if wanted),
        unwanted=frozenset(stream for stream, wanted in states.items() if wanted is False),
        undecided=frozenset((stream, lines._open[stream].end) for stream in states if states[stream] is None),
    )


def _in_open_lines(newest_first: Iterable[Entry], selection: Selection) -> list[Entry]:
    """From these entries those from the beginning of the lines on that the newest leaves open, in order."""
    streams, read_bytes = ({"stdout", "stderr"} if selection.stream is None else {selection.stream}), 0
    seen: list[Entry] = []
    count = 0
    for entry in newest_first:
        read_bytes += len(entry.data) + ENTRY_BYTES
        if not streams or read_bytes > LINE_BYTES:
            break
        seen.append(entry)
        if entry.stream in streams and selection.admits(entry):
            if entry.partial:
                count = len(seen)
            else:
                streams.remove(entry.stream)
    return seen[:count][::-1]


class _Run:
    """A line as far as it is known from its end."""

    def __init__(self, entry: Entry, read_bytes: int) -> None:
        self.stream = entry.stream
        self.first = self.last = entry.seq
        self.begun_at = read_bytes
        self.parts = [entry.data]

    def extend(self, entry: Entry) -> None:
        self.first = entry.seq
        self.parts.append(entry.data)


class LastLines:
    """Finds where the last ``count`` lines that are wanted begin, from entries given from the newest to the oldest."""

    def __init__(self, selection: Selection, count: int, *, end: int) -> None:
        self._selection = selection
        self._missing = count
        self._start = Start(end)
        self._open: dict[str, _Run] = {}
        self._found: list[tuple[int, int, str]] = []
        """Those of which it is not known yet how many began after them: a heap of where they begin (less than 0) and end."""
        self._read_bytes = 0

    def add(self, entry: Entry) -> Start | None:
        """Where they begin, as soon as that is known."""
        if not self._selection.admits(entry):
            return None
        self._read_bytes += len(entry.data) + ENTRY_BYTES
        for other in list(self._open.values()):
            if self._read_bytes - other.begun_at > LINE_BYTES:
                self._end(other)
        run = self._open.get(entry.stream)
        if run is not None and entry.partial:
            run.extend(entry)
        else:
            if run is not None:
                self._end(run)
            self._open[entry.stream] = _Run(entry, self._read_bytes)
        return self._settled() if self._found else None

    def all_seen(self) -> Start:
        """Where they begin when no entry is older."""
        for run in list(self._open.values()):
            self._end(run)
        return self._settled() or self._start

    def _end(self, run: _Run) -> None:
        del self._open[run.stream]
        if self._selection.matches(b"".join(reversed(run.parts))):
            heappush(self._found, (-run.first, run.last, run.stream))

    def _settled(self) -> Start | None:
        newest_open = max((run.first for run in self._open.values()), default=0)
        while self._found and -self._found[0][0] > newest_open:
            after = -heappop(self._found)[0] - 1
            self._missing -= 1
            self._start = Start(after)
            if not self._missing:
                known = [(-first, last, stream) for first, last, stream in self._found]
                known += [(run.first, run.last, run.stream) for run in self._open.values()]
                goes_on = frozenset(stream for first, last, stream in known if first <= after < last)
                return Start(after, unwanted=goes_on)
        return None
