"""Prints a job's output as it was written: no colour added or taken away, nothing escaped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import BinaryIO

from hodei.client.shapes import LogEntry

Flush = Callable[[], None]


class LogPrinter:
    """Entries of the job's stdout go to one file, those of its stderr to another; :meth:`flush` hands them on.

    ``timestamps``: before each line when it was written.
    """

    def __init__(self, out: BinaryIO, err: BinaryIO, *, timestamps: bool = False) -> None:
        self._files = {"stdout": out, "stderr": err}
        self._timestamps = timestamps
        self._within_line = dict.fromkeys(self._files, False)

    def show(self, entry: LogEntry) -> None:
        stream = entry.stream if entry.stream in self._files else "stdout"
        stamp = b""
        if self._timestamps and entry.at and not self._within_line[stream]:
            stamp = f"{entry.at} ".encode()
        self._within_line[stream] = entry.partial
        self._files[stream].write(stamp + entry.exact + (b"" if entry.partial else b"\n"))

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()


def to_both(*, timestamps: bool = False) -> LogPrinter:
    """Each stream to ours of the same name."""
    return LogPrinter(sys.stdout.buffer, sys.stderr.buffer, timestamps=timestamps)


def to_stderr() -> LogPrinter:
    """Both to stderr, for a command whose stdout is spoken for."""
    return LogPrinter(sys.stderr.buffer, sys.stderr.buffer)
