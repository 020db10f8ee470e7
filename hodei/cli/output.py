"""What goes to stdout and to stderr, and how it looks."""

from __future__ import annotations

import io
import json
import os
import select
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

NEVER_NARROWER = 10_000
"""Columns for a table that no terminal shows: a script wants whole ids."""

STYLES = {
    "SUCCEEDED": "green", "ACTIVE": "green", "READY": "green", "COMPLETED": "green", "OK": "green",
    "FAILED": "red", "TIMEOUT": "red", "UNHEALTHY": "red", "DOWN": "red", "UNREACHABLE": "red",
    "RUNNING": "cyan", "BUSY": "cyan", "IN_PROGRESS": "cyan",
    "CANCELLED": "yellow", "DEGRADED": "yellow", "OVERLOADED": "yellow", "MAINTENANCE": "yellow",
}  # fmt: skip


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How to show it.")]


class Patient(io.RawIOBase):
    """A file that somebody else made non-blocking, such as a pipe with a slow reader: what it does not take now waits."""

    def __init__(self, raw: io.FileIO) -> None:
        self.raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.raw.fileno()

    def isatty(self) -> bool:
        return self.raw.isatty()

    def write(self, data: Any) -> int:
        while (size := self.raw.write(data)) is None:
            select.select([], [self.raw], [])
        return size


def prepare() -> None:
    """Have stdout and stderr take everything that is written to them, whatever they are."""
    sys.stdout, sys.stderr = _ready(sys.stdout), _ready(sys.stderr)


def _ready(stream: TextIO | None) -> TextIO:
    if stream is None:  # it was closed when we were started
        return Path(os.devnull).open("w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="backslashreplace")
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if not isinstance(raw, io.FileIO) or os.get_blocking(raw.fileno()):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(Patient(raw)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,
    )


def put(line: str) -> None:
    """A line of what was asked for."""
    sys.stdout.write(f"{line}\n")


def say(line: str) -> None:
    """A line beside what was asked for."""
    sys.stdout.flush()
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def put_json(document: Any) -> None:
    put(json.dumps(document, indent=2))


def visible(value: object) -> str:
    """Text from elsewhere without characters that steer a terminal; ``-`` when there is none."""
    text = "" if value is None else str(value)
    return (
        "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
        or "-"
    )


def moment(value: str | None) -> str:
    """``2026-05-01 12:00:00 UTC``."""
    if not value:
        return "-"
    try:
        return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return visible(value)


def lasted(start: str | None, end: str | None) -> str:
    """How long it was from one time to the other: ``3.2 s``, ``4 min 05 s``, ``2 h 10 min``."""
    try:
        seconds = (datetime.fromisoformat(end or "") - datetime.fromisoformat(start or "")).total_seconds()
    except (ValueError, TypeError):
        return "-"
    if seconds < 60:
        return f"{max(seconds, 0.0):.1f} s"
    minutes = int(seconds) // 60
    return (
        f"{minutes} min {int(seconds) % 60:02d} s"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60:02d} min"
    )


def put_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout: as wide as the terminal, or as its content where stdout is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else NEVER_NARROWER,
        no_color="NO_COLOR" in os.environ or None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        whole = column in ("ID", "STATUS", "STATE")
        table.add_column(
            column,
            no_wrap=True,
            overflow="fold" if whole else "ellipsis",
            min_width=36 if column == "ID" else None,
        )
    for row in rows:
        cells = [visible(cell) for cell in row]
        table.add_row(*(Text(cell, style=STYLES.get(cell.upper(), "")) for cell in cells))
    console.print(table)


def put_fields(fields: Iterable[tuple[str, object]]) -> None:
    """``Name: value`` lines; what is not known is left out."""
    for name, value in fields:
        if value not in (None, "", "-"):
            put(f"{name}: {visible(value)}")


def flush() -> None:
    """Hands what was put to whoever reads it now."""
    sys.stdout.flush()
