"""Prints a job's output as it was written: no colour added or taken away, nothing escaped."""

from __future__ import annotations

import sys
from typing import BinaryIO

from hodei.client.shapes import LogEntry


class LogPrinter:
    """Entries of the job's stdout go to one file, those of its stderr to another, each at once."""

    def __init__(self, out: BinaryIO, err: BinaryIO) -> None:
        self._files = {"stdout": out, "stderr": err}

    def show(self, entry: LogEntry) -> None:
        file = self._files.get(entry.stream, self._files["stdout"])
        file.write(entry.text.encode("utf-8", "surrogateescape") + (b"" if entry.partial else b"\n"))
        file.flush()


def to_both() -> LogPrinter:
    """Each stream to ours of the same name."""
    return LogPrinter(sys.stdout.buffer, sys.stderr.buffer)


def to_stderr() -> LogPrinter:
    """Both to stderr, for a command whose stdout is spoken for."""
    return LogPrinter(sys.stderr.buffer, sys.stderr.buffer)
