"""The stored log of one execution: appending frames, and reading them back."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from hodei_agent import frames
from hodei_agent.frames import Frame
from hodei_agent.protocol import STREAM_NAMES

from hodei.errors import StaleAttempt
from hodei.logs.chunks import LARGEST_CHUNK_BYTES, Chunk, Entry, Log, backward, copy_rows, forward
from hodei.logs.lines import BEGINNING, LastLines, Lines, Start, going_on
from hodei.logs.selection import EVERYTHING, Selection
from hodei.storage.database import Database
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

CLOCKS_APART_US = 3_600_000_000
"""Entries bear the worker's time, chunks the database's: by so much they may differ."""


def receive(body: bytes) -> list[Frame]:
    """The frames of a request's body, each checked against its checksum and what its header says. Holds no transaction.

    One that was damaged on the way is left out with those behind it: it is not acknowledged, so the agent sends it again.
    Raises FrameError for one that can never be right: no reader could make anything of it.
    """
    whole: list[Frame] = []
    for frame in frames.split(body):
        if frame.plain_size > LARGEST_CHUNK_BYTES:
            raise frames.FrameError(
                f"frame {frame.seq} would unpack to more than {LARGEST_CHUNK_BYTES} bytes"
            )
        try:
            frames.check(frame)
        except frames.DamagedFrame as error:
            log.warning("log.frame_damaged", reason=str(error))
            break
        whole.append(frame)
    return whole


def append(tx: Transaction, execution: Row, received: list[Frame]) -> int:
    """Store the frames that continue the log, as :func:`receive` gave them; return the highest up to which all are stored.

    The caller holds the execution's row, as ``execution_for_agent`` gives it. Frames that are there already are passed
    over; what comes after a gap is not stored, and the answer tells the agent where to go on. Raises FrameError for a
    frame whose numbers do not fit, StaleAttempt when the attempt ended so long ago that its log has expired.
    """
    last, entries, size = execution.last_frame, 0, 0
    expected = execution.log_entries + 1
    new: list[Frame] = []
    for frame in received:
        if frame.seq <= last:
            continue
        if frame.seq != last + 1:
            break
        if frame.first_entry != expected:
            raise frames.FrameError(f"frame {frame.seq} starts at entry {frame.first_entry}, not {expected}")
        new.append(frame)
        last, expected = frame.seq, expected + frame.entries
        entries += frame.entries
        size += frame.output_size
    if new:
        if execution.log_dropped_at is not None:
            raise StaleAttempt()
        if not execution.log_day_is_open:
            tx.scalar("log_day_open", day=execution.log_day)
        tx.copy("log_chunks_copy", copy_rows(execution.log_day, execution.id, new))
        tx.execute("execution_add_log", id=execution.id, last_frame=last, entries=entries, bytes=size)
    return last


def entries(
    database: Database, log: Log, *, start: Start = BEGINNING, selection: Selection = EVERYTHING
) -> Iterator[Entry]:
    """The selected entries after the start, in the order in which they were written."""
    lines = Lines(selection, start)
    for chunk in forward(database, log, after=start.after, since_us=_stored_since(selection)):
        yield from lines.of(_entries_of(chunk, log, start.after))
    yield from lines.rest()


def pieces(
    database: Database, log: Log, *, start: Start = BEGINNING, selection: Selection = EVERYTHING
) -> Iterator[tuple[str, bytes]]:
    """Stream and bytes as the job wrote them; line by line only where the start or the selection asks for it."""
    if selection.looks_at_entries or start.unwanted:
        for entry in entries(database, log, start=start, selection=selection):
            yield entry.stream, entry.data
        return
    for chunk in forward(database, log, after=start.after):
        if start.after < chunk.first_entry and chunk.last_entry <= log.entries:
            for segment in chunk.segments:
                stream = STREAM_NAMES[segment.stream]
                if selection.stream in (None, stream):
                    yield stream, segment.data
        else:
            for entry in selection.admitted(_entries_of(chunk, log, start.after)):
                yield entry.stream, entry.data


def raw(database: Database, log: Log) -> Iterator[bytes]:
    """The bytes as the job wrote them, of both streams in the order in which they came."""
    return (data for _, data in pieces(database, log))


def start_of_tail(database: Database, log: Log, count: int, selection: Selection = EVERYTHING) -> Start:
    """Where the last ``count`` selected lines begin. Reads from the end, and no further than it must."""
    if count == 0:
        return Start(log.entries)
    if selection == EVERYTHING and count >= log.entries:
        return BEGINNING
    lines = LastLines(selection, count, end=log.entries)
    for chunk in backward(database, log):
        for entry in reversed(list(chunk.entries())):
            if entry.seq <= log.entries:
                start = lines.add(entry)
                if start is not None:
                    return start
        if selection.since_us is not None and chunk.segments and chunk.segments[0].at_us < selection.since_us:
            break  # times never go back within a log
    return lines.all_seen()


def start_of_moment(database: Database, log: Log, since_us: int) -> Start:
    """Where what was written since a moment begins. Reads from the end, and no further than it must."""
    after = log.entries
    for chunk in backward(database, log):
        if chunk.segments and chunk.segments[0].at_us < since_us:  # times never go back within a log
            later = (entry.seq - 1 for entry in chunk.entries() if entry.at_us >= since_us)
            return Start(min(after, next(later, after)))
        after = min(after, chunk.first_entry - 1)
    return Start(after)


def start_after(database: Database, log: Log, after: int, selection: Selection) -> Start:
    """Going on after an entry that was got: of a line that was wanted the rest is wanted, whatever is in it."""
    if selection.grep is None or not 0 < after <= log.entries:
        return Start(after)
    return going_on(_entries_down_from(database, log, after), after, selection)


def _entries_down_from(database: Database, log: Log, seq: int) -> Iterator[Entry]:
    for chunk in forward(database, log, after=seq - 1):
        yield from (entry for entry in reversed(list(chunk.entries())) if entry.seq <= seq)
        for older in backward(database, log, before_seq=chunk.seq):
            yield from reversed(list(older.entries()))
        return


def _entries_of(chunk: Chunk, log: Log, after: int) -> Iterator[Entry]:
    if after < chunk.first_entry and chunk.last_entry <= log.entries:
        return chunk.entries()
    return (entry for entry in chunk.entries() if after < entry.seq <= log.entries)


def _stored_since(selection: Selection) -> int | None:
    return None if selection.since_us is None else max(0, selection.since_us - CLOCKS_APART_US)
