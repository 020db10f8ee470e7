"""Prints a job's output as it was written: no colour added or taken away, nothing escaped.

Each byte is written once, whatever comes between: a Ctrl-C, after which the log goes on at :attr:`LogPrinter.place`, or
a reader that takes less than it is given, also of a pipe that somebody else has made non-blocking.
"""

from __future__ import annotations

import select
import sys
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import BinaryIO, NamedTuple

from hodei.client.shapes import LogEntry

Flush = Callable[[], None]

BLOCK_BYTES = 64 * 1024


class _Shown(NamedTuple):
    """An entry as it is printed. ``end``: of its bytes among all that are printed."""

    place: str
    file: BinaryIO
    data: bytes
    end: int
    within_line: frozenset[str]


class LogPrinter:
    """Entries of the job's stdout go to one file, those of its stderr to another; :meth:`flush` hands them on.

    ``timestamps``: before each line when it was written.
    """

    def __init__(self, out: BinaryIO, err: BinaryIO, *, timestamps: bool = False) -> None:
        self._files = {"stdout": _unbuffered(out), "stderr": _unbuffered(err)}
        self._timestamps = timestamps
        self._shown = deque([_Shown("0-0", out, b"", 0, frozenset())])
        """The newest entry, and those before it that are not written."""
        self._written = [0]
        """How many bytes; the sum counts."""

    @property
    def place(self) -> str:
        """After which entry to go on: attempt and seq of the last that was shown."""
        return self._shown[-1].place

    def show(self, entry: LogEntry) -> None:
        """Have the entry printed; it is noted with its place in one step, or not at all."""
        last = self._shown[-1]
        stream = entry.stream if entry.stream in self._files else "stdout"
        data = entry.exact + (b"" if entry.partial else b"\n")
        if self._timestamps and entry.at and stream not in last.within_line:
            data = f"{entry.at} ".encode() + data
        within_line = last.within_line | {stream} if entry.partial else last.within_line - {stream}
        place, end = f"{entry.attempt}-{entry.seq}", last.end + len(data)
        self._shown.append(_Shown(place, self._files[stream], data, end, within_line))
        if end - self._written[0] > BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was shown. Interrupted, the next flush goes on behind the last byte that was written."""
        while True:
            written = sum(self._written)
            self._written[:] = [written]
            while len(self._shown) > 1 and self._shown[0].end <= written:
                self._shown.popleft()
            first = self._shown[0]
            if first.end <= written:
                return
            rest = self._next_to(first.file)[len(first.data) - (first.end - written) :]
            # Python looks for signals between its own steps: none comes between this write and the note of it.
            self._written.extend(filter(None, map(first.file.write, (rest,))))
            if len(self._written) == 1:
                select.select([], [first.file], [])

    def _next_to(self, file: BinaryIO) -> bytes:
        return b"".join(shown.data for shown in takewhile(lambda shown: shown.file is file, self._shown))


def _unbuffered(file: BinaryIO) -> BinaryIO:
    """A buffer between would not say how much of what it was given it has when it is interrupted."""
    while hasattr(file, "raw"):
        file = file.raw
    return file


def to_both(*, timestamps: bool = False) -> LogPrinter:
    """Each stream to ours of the same name."""
    return LogPrinter(sys.stdout.buffer, sys.stderr.buffer, timestamps=timestamps)


def to_stderr() -> LogPrinter:
    """Both to stderr, for a command whose stdout is spoken for."""
    return LogPrinter(sys.stderr.buffer, sys.stderr.buffer)
