"""Output on its way from the job to the sender: a little in memory, the rest on disk, within a limit."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import NamedTuple

from hodei_agent.frames import SEGMENT_HEADER_BYTES, Segment, count_entries, segment_header
from hodei_agent.protocol import REMARK
from hodei_agent.spool import Backlog

BATCH_BYTES = 256 * 1024
"""A batch this large is sent at once; it becomes one frame."""
BATCH_AGE_S = 0.025
"""A batch is sent at the latest this long after its first byte, though the job goes on writing."""
MEMORY_BYTES = 4 * 1024 * 1024
LEAST_LIMIT_BYTES = 2 * BATCH_BYTES
TAKING_S = 2.0
"""A platform that took nothing for this long is away, or as good as that: nobody waits for it."""


class Batch(NamedTuple):
    """The payload of one frame. `size`: how many bytes of output are in it."""

    entries: int
    size: int
    plain: bytes


def remark(text: str, at_us: int) -> Batch:
    """A line of the agent's own, which stands where output is missing."""
    segment = Segment(REMARK, at_us, text.encode())
    return Batch(1, len(segment.data), segment_header(segment) + segment.data)


class _Closed(NamedTuple):
    """What is in a batch that is closed, and when the first of it was read."""

    entries: int
    output_bytes: int
    at_us: int


class Outbox:
    """One thread puts segments in, another takes batches out. Neither ever waits for the other's work.

    At most `limit_bytes` are kept; what the platform is slow to take goes to disk from 4 MiB on. At the limit
    :meth:`is_ready` asks the one who puts in to wait for as long as the platform is taking, and what he puts in all the
    same is kept; when it is not taking, there is no room.
    """

    def __init__(self, folder: str, limit_bytes: int) -> None:
        self._limit = max(limit_bytes, LEAST_LIMIT_BYTES)
        self._backlog = Backlog(folder, MEMORY_BYTES)
        self._changed = threading.Condition(threading.Lock())
        self._closed: deque[_Closed] = deque()
        self._open: list[bytes] = []
        self._open_bytes = 0
        self._open_entries = 0
        self._open_output_bytes = 0
        self._open_at_us = 0
        self._open_since = 0.0
        self._urgent = False
        self._ended = False
        self._taker_waits = False
        self._taken_at: float | None = None
        self._disk_full = False
        self._refused = False
        self.lost_entries = 0
        self.lost_bytes = 0
        """What was put in and not given out: the disk did not give it back, the platform lost it or refused it."""

    def put(self, segment: Segment, entries: int | None = None, *, force: bool = False) -> bool:
        """Add a segment, with its number of entries if that is known. False, and nothing is kept, when there is no room;
        `force` takes it all the same.
        """
        size = len(segment.data) + SEGMENT_HEADER_BYTES
        with self._changed:
            if self._taken_at is None:
                self._taken_at = time.monotonic()
            if self._refused:
                return False
            if self._size_bytes() + size > self._limit and not force and not self._is_taking():
                return False
            if self._open_bytes + size > BATCH_BYTES and not self._close_batch() and not force:
                return False
            if not self._open:
                self._open_since = time.monotonic()
                self._open_at_us = segment.at_us
                if self._taker_waits:
                    self._changed.notify()
            self._open += segment_header(segment), segment.data
            self._open_bytes += size
            self._open_output_bytes += len(segment.data)
            self._open_entries += count_entries(segment.data) if entries is None else entries
        return True

    def is_ready(self) -> bool:
        """Whether to go on putting in: there is room, or waiting for it would be in vain."""
        with self._changed:
            return (
                self._refused
                or (self._size_bytes() <= self._limit and not self._disk_full)
                or not self._is_taking()
            )

    def has_room(self) -> bool:
        """Whether a quarter of the room is free: the time to go on after some output had to be dropped."""
        with self._changed:
            return not self._disk_full and not self._refused and self._size_bytes() <= self._limit * 3 // 4

    def flush(self) -> None:
        """Have what is there sent now."""
        with self._changed:
            if self._open and not self._urgent:
                self._urgent = True
                self._changed.notify()

    def end(self) -> None:
        """Nothing more will be put in."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be taken."""
        return self._size_bytes() == 0

    @property
    def spool_bytes(self) -> int:
        """Bytes that wait on disk."""
        return self._backlog.spool_bytes

    def take(self, max_bytes: int) -> list[Batch]:
        """Wait for batches and return them, oldest first; none after the end. Takes at least one."""
        with self._changed:
            while not self._backlog:
                if self._ended or self._urgent:
                    break
                wait_s = None
                if self._open:
                    wait_s = self._open_since + BATCH_AGE_S - time.monotonic()
                    if wait_s <= 0:
                        break
                self._taker_waits = True
                self._changed.wait(wait_s)
                self._taker_waits = False
            taken: list[Batch] = []
            size = 0
            self._disk_full = False
            while self._backlog and (not taken or size + BATCH_BYTES <= max_bytes):
                taken.append(self._take_closed())
                size += len(taken[-1].plain)
            if self._open and not self._backlog and (not taken or size + BATCH_BYTES <= max_bytes):
                taken.append(Batch(self._open_entries, self._open_output_bytes, b"".join(self._open)))
                self._start_batch()
            self._taken_at = time.monotonic()
            return taken

    def note_taken(self) -> None:
        """The platform has just taken something of what was given out."""
        with self._changed:
            self._taken_at = time.monotonic()

    def note_lost(self, entries: int, size: int) -> None:
        """So much that was given out is lost."""
        with self._changed:
            self.lost_entries += entries
            self.lost_bytes += size

    def refuse(self) -> None:
        """The platform wants no more of it: what waits is lost, and nothing more is taken in."""
        with self._changed:
            self.lost_entries += sum(closed.entries for closed in self._closed) + self._open_entries
            self.lost_bytes += sum(closed.output_bytes for closed in self._closed) + self._open_output_bytes
            self._refused = True
            self._forget()

    def discard(self) -> None:
        """Forget everything, and end."""
        with self._changed:
            self._forget()
            self._ended = True
            self._changed.notify()

    def _forget(self) -> None:
        self._backlog.clear()
        self._closed.clear()
        self._start_batch()

    def _size_bytes(self) -> int:
        return self._backlog.size_bytes + self._open_bytes

    def _is_taking(self) -> bool:
        recently = self._taken_at is not None and time.monotonic() - self._taken_at < TAKING_S
        return not self._ended and (self._taker_waits or recently)

    def _start_batch(self) -> None:
        self._open = []
        self._open_bytes = self._open_entries = self._open_output_bytes = 0
        self._urgent = False

    def _close_batch(self) -> bool:
        """Move the open batch to the closed ones. False when it finds no place: on disk, or for a moment in memory."""
        if not self._open:
            return True
        plain = b"".join(self._open)
        try:
            self._backlog.append(plain)
        except OSError:
            self._disk_full = True
            if not self._is_taking():
                self._open = [plain]
                return False
            self._backlog.keep(plain)
        self._closed.append(_Closed(self._open_entries, self._open_output_bytes, self._open_at_us))
        self._start_batch()
        self._changed.notify()
        return True

    def _take_closed(self) -> Batch:
        """The oldest closed batch; when the disk does not give it back, a remark that says so."""
        closed = self._closed.popleft()
        try:
            return Batch(closed.entries, closed.output_bytes, self._backlog.take())
        except OSError as error:
            self.lost_entries += closed.entries
            self.lost_bytes += closed.output_bytes
            lost = f"{closed.entries} lines ({closed.output_bytes} bytes) were dropped here"
            text = f"[hodei: {lost}, the worker's disk did not give them back ({error.strerror or error})]\n"
            return remark(text, closed.at_us)
