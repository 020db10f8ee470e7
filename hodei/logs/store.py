"""The stored log of one execution: appending frames, and reading them back."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from hodei_agent import frames
from hodei_agent.frames import Frame
from hodei_agent.protocol import STREAM_NAMES

from hodei.errors import StaleAttempt
from hodei.logs.chunks import LARGEST_CHUNK_BYTES, Entry, Log, backward, copy_rows, forward
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
    database: Database, log: Log, *, after: int = 0, selection: Selection = EVERYTHING
) -> Iterator[Entry]:
    """The selected entries above ``after``, in the order in which they were written."""
    for chunk in forward(database, log, after=after, since_us=_stored_since(selection)):
        for entry in chunk.entries():
            if after < entry.seq <= log.entries and selection.takes(entry):
                yield entry


def pieces(
    database: Database, log: Log, *, after: int = 0, selection: Selection = EVERYTHING
) -> Iterator[tuple[str, bytes]]:
    """Stream and bytes as the job wrote them; line by line only where the selection asks for it."""
    for chunk in forward(database, log, after=after, since_us=_stored_since(selection)):
        whole = after < chunk.first_entry and chunk.last_entry <= log.entries
        if whole and not selection.looks_at_entries:
            for segment in chunk.segments:
                stream = STREAM_NAMES[segment.stream]
                if selection.stream in (None, stream):
                    yield stream, segment.data
        else:
            for entry in chunk.entries():
                if after < entry.seq <= log.entries and selection.takes(entry):
                    yield entry.stream, entry.data


def raw(
    database: Database, log: Log, *, after: int = 0, selection: Selection = EVERYTHING
) -> Iterator[bytes]:
    """The bytes as the job wrote them: of one stream, or of both in the order in which they came."""
    return (data for _, data in pieces(database, log, after=after, selection=selection))


def start_of_tail(database: Database, log: Log, count: int, selection: Selection = EVERYTHING) -> int:
    """After which entry the last ``count`` selected ones begin. Reads from the end, and no further than it must."""
    if count == 0:
        return log.entries
    if selection == EVERYTHING:
        return max(0, log.entries - count)
    missing, start = count, log.entries
    for chunk in backward(database, log):
        found = [
            entry.seq for entry in chunk.entries() if entry.seq <= log.entries and selection.takes(entry)
        ]
        if len(found) >= missing:
            return found[-missing] - 1
        if found:
            missing, start = missing - len(found), found[0] - 1
        if selection.since_us is not None and chunk.segments and chunk.segments[0].at_us < selection.since_us:
            break  # times never go back within a log
    return start


def _stored_since(selection: Selection) -> int | None:
    return None if selection.since_us is None else max(0, selection.since_us - CLOCKS_APART_US)
