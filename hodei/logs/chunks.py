"""Frames into rows and back: stored in one COPY with their payload still packed, read in batches of bounded size."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from hodei_agent import frames
from hodei_agent.frames import Frame
from hodei_agent.protocol import STREAM_NAMES

from hodei.errors import LogExpired
from hodei.storage.database import Database
from hodei.storage.transaction import Row

CHUNKS_PER_READ = 64
BYTES_PER_READ = 1024 * 1024
"""How much unpacked output one read of the database gives; a chunk that is larger comes alone."""
LARGEST_CHUNK_BYTES = 16 * 1024 * 1024
"""An agent's frames are 256 KiB; a frame that would unpack to more than this is refused."""

_COPY_BEGIN = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_END = struct.pack(">h", -1)
_ROW = struct.Struct(">h ii i16s iq iq ii ii ih iq i")
"""Number of fields, then each field's length and value; the data itself follows its length."""
_FIRST_DAY = date(2000, 1, 1)


class Entry(NamedTuple):
    """One line of output, or a part of one: ``partial`` when the line goes on in the stream's next entry."""

    seq: int
    stream: str
    at_us: int
    data: bytes

    @property
    def partial(self) -> bool:
        return not self.data.endswith(b"\n")


@dataclass(frozen=True, kw_only=True)
class Log:
    """Where the log of one execution is. ``entries``: how many of them are read."""

    execution_id: UUID
    day: date
    entries: int

    @classmethod
    def of(cls, execution: Row) -> Log:
        """The log of a row of ``hodei.executions``, as far as it was stored then."""
        return cls(execution_id=execution.id, day=execution.log_day, entries=execution.log_entries)


class Chunk:
    """A stored frame; unpacked and checked when it is first asked for."""

    def __init__(self, row: Row) -> None:
        self.seq: int = row.seq
        self.first_entry: int = row.first_entry
        self.last_entry: int = row.first_entry + row.entries - 1
        self._row = row

    @cached_property
    def segments(self) -> list[frames.Segment]:
        """Raises FrameError when the stored bytes are damaged."""
        row = self._row
        plain = frames.plain_payload(row.codec, bytes(row.data), row.plain_size, row.crc32)
        return list(frames.segments_in(plain))

    def entries(self) -> Iterator[Entry]:
        """The entries, in the order in which they were written."""
        seq = self.first_entry
        for segment in self.segments:
            stream, at_us = STREAM_NAMES[segment.stream], segment.at_us
            for data in frames.entries_in(segment):
                yield Entry(seq, stream, at_us, data)
                seq += 1


def copy_rows(day: date, execution_id: UUID, stored: Iterable[Frame]) -> list[bytes]:
    """The frames as COPY wants them in its binary format: the payloads as they are, neither escaped nor copied."""
    parts = [_COPY_BEGIN]
    for frame in stored:
        head = _ROW.pack(
            9,
            *(4, (day - _FIRST_DAY).days),
            *(16, execution_id.bytes),
            *(8, frame.seq),
            *(8, frame.first_entry),
            *(4, frame.entries),
            *(4, frame.plain_size),
            *(2, frame.codec),
            *(8, frame.crc32),
            len(frame.payload),
        )
        parts += head, frame.payload
    parts.append(_COPY_END)
    return parts


def read(
    database: Database, log: Log, *, after: int = 0, after_seq: int = 0, since_us: int | None = None
) -> list[Chunk]:
    """The next chunks that hold entries above ``after``, about 1 MiB of them; none at the end."""
    with database.glance() as tx:
        rows = tx.rows(
            "log_chunks_after",
            log_day=log.day,
            execution_id=log.execution_id,
            after=after,
            after_seq=after_seq,
            since=None if since_us is None else datetime.fromtimestamp(since_us / 1e6, UTC),
            limit=CHUNKS_PER_READ,
            budget_bytes=BYTES_PER_READ,
        )
    return [Chunk(row) for row in rows]


def forward(database: Database, log: Log, *, after: int = 0, since_us: int | None = None) -> Iterator[Chunk]:
    """The chunks with entries above ``after``, up to the log's last entry.

    Holds no connection between two batches, so a slow reader costs nothing. ``since_us``: chunks stored before that
    moment may be left out. Raises LogExpired when the log is dropped while it is read, or lacks a chunk: a part is never taken
    for all.
    """
    after_seq, reached = 0, after
    while reached < log.entries:
        found = read(database, log, after=after, after_seq=after_seq, since_us=since_us)
        if not found:
            if since_us is None:
                raise LogExpired()
            return
        for chunk in found:
            if since_us is None and chunk.first_entry > reached + 1:
                raise LogExpired()
            after_seq, reached = chunk.seq, chunk.last_entry
            yield chunk


def backward(database: Database, log: Log, *, before_seq: int = 2**62) -> Iterator[Chunk]:
    """The chunks before a frame from the newest to the oldest, one at a time."""
    parameters: dict[str, Any] = {"log_day": log.day, "execution_id": log.execution_id}
    while True:
        with database.glance() as tx:
            row = tx.row("log_chunk_before", before_seq=before_seq, **parameters)
        if row is None:
            return
        before_seq = row.seq
        yield Chunk(row)
