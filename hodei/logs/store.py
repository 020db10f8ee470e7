"""The stored log of one execution: appending frames, and reading them back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hodei_agent import frames
from hodei_agent.frames import Frame, Segment
from hodei_agent.protocol import STREAM_NAMES

from hodei.storage.database import Database
from hodei.storage.transaction import Row, Transaction

CHUNKS_PER_READ = 64


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of output, or a part of one: ``partial`` when the line goes on in the stream's next entry."""

    seq: int
    stream: str
    at_us: int
    data: bytes

    @property
    def partial(self) -> bool:
        return not self.data.endswith(b"\n")


def append(tx: Transaction, execution: Row, received: list[Frame]) -> int:
    """Store the frames that continue the log; return the highest frame up to which all are stored.

    The caller holds the execution's row. Frames that are there already are passed over; what comes after a gap is not
    stored, and the answer tells the agent where to go on. Raises FrameError for a frame whose numbers do not fit.
    """
    last, entries, size = execution.last_frame, 0, 0
    expected = execution.log_entries + 1
    rows: list[dict[str, Any]] = []
    for frame in received:
        if frame.seq <= last:
            continue
        if frame.seq != last + 1:
            break
        if frame.first_entry != expected:
            raise frames.FrameError(f"frame {frame.seq} starts at entry {frame.first_entry}, not {expected}")
        rows.append(
            {
                "execution_id": execution.id,
                "seq": frame.seq,
                "first_entry": frame.first_entry,
                "entries": frame.entries,
                "plain_size": frame.plain_size,
                "codec": frame.codec,
                "crc32": frame.crc32,
                "data": frame.payload,
            }
        )
        last, expected = frame.seq, expected + frame.entries
        entries += frame.entries
        size += frame.output_size
    if rows:
        tx.execute_many("log_chunk_insert", rows)
        tx.execute("execution_add_log", id=execution.id, last_frame=last, entries=entries, bytes=size)
    return last


def chunks(database: Database, execution_id: UUID, *, after: int = 0) -> Iterator[tuple[int, list[Segment]]]:
    """The stored chunks that hold entries above ``after``: the number of each one's first entry, and its segments.

    Holds no connection between two reads of a batch, so a slow reader costs nothing.
    """
    after_seq = 0
    while True:
        with database.glance() as tx:
            rows = tx.rows(
                "log_chunks_after",
                execution_id=execution_id,
                after=after,
                after_seq=after_seq,
                limit=CHUNKS_PER_READ,
            )
        for row in rows:
            plain = frames.plain_payload(row.codec, bytes(row.data), row.plain_size, row.crc32)
            yield row.first_entry, list(frames.segments_in(plain))
            after_seq = row.seq
        if len(rows) < CHUNKS_PER_READ:
            return


def entries(database: Database, execution_id: UUID, *, after: int = 0) -> Iterator[Entry]:
    """The entries above ``after``, in the order in which they were written."""
    for first, segments in chunks(database, execution_id, after=after):
        seq = first
        for segment in segments:
            for data in frames.entries_in(segment):
                if seq > after:
                    yield Entry(seq=seq, stream=STREAM_NAMES[segment.stream], at_us=segment.at_us, data=data)
                seq += 1


def raw(database: Database, execution_id: UUID, *, stream: str | None = None) -> Iterator[bytes]:
    """The bytes as the job wrote them: of one stream, or of both in the order in which they came."""
    for _, segments in chunks(database, execution_id):
        block = b"".join(
            segment.data for segment in segments if stream is None or STREAM_NAMES[segment.stream] == stream
        )
        if block:
            yield block
