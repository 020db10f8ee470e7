"""From what the job's pipes gave to segments in the outbox: masking, cutting, the cap, and what was dropped."""

from __future__ import annotations

import time
from typing import Any, Callable, Collection

from hodei_agent.echo import Echo
from hodei_agent.frames import Segment, count_entries
from hodei_agent.lines import LineCutter, Piece, unfinished_character
from hodei_agent.masking import Mask
from hodei_agent.outbox import Outbox
from hodei_agent.protocol import REMARK, STDERR, STDOUT

QUIET_S = 0.003
"""After this long without output, what is there is sent."""
BUSY_QUIET_S = 0.008
"""The same while the job writes all the time and its pipe is looked at every 5 ms."""


def wall_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Intake:
    """Takes blocks of both streams, in the order in which they were read. Times are monotonic seconds.

    Nothing that it gives on holds a value of `secrets` (name to value), and all that it counts is counted after masking.
    """

    def __init__(
        self,
        outbox: Outbox,
        echo: Echo,
        max_bytes: int,
        wall_us: Callable[[], int] = wall_us,
        secrets: Any = None,
    ) -> None:
        self._outbox = outbox
        self._echo = echo
        self._max_bytes = max_bytes
        self._wall_us = wall_us
        self._mask = Mask(secrets)
        self._masks = {stream: self._mask.stream() for stream in (STDOUT, STDERR)}
        self._cutters = {STDOUT: LineCutter(), STDERR: LineCutter()}
        self._last_at_us = 0
        self._output_bytes = 0
        self._flush_at: float | None = None
        self._missed_entries = 0
        self._missed_bytes = 0
        self.truncated = False
        self.entries = 0
        self.bytes = 0
        self.dropped_entries = 0
        self.dropped_bytes = 0
        self.lost_bytes = 0
        """Of these, what was not beyond the cap."""

    def is_ready(self) -> bool:
        """Whether to feed on. Not when those who take the output are slower than the job, but still taking."""
        return self._outbox.is_ready() and self._echo.is_ready()

    def feed(
        self, stream: int, block: bytes, read_at: float, now: float | None = None, *, busy: bool = False
    ) -> None:
        """Add a block; `busy` says that more is expected within milliseconds."""
        now = read_at if now is None else now
        mask = self._masks[stream]
        if mask is not None:
            block = mask.feed(block, read_at)
        pieces = self._cutters[stream].feed(block, read_at)
        for piece in pieces:
            self._emit(stream, piece, now)
        if pieces:
            self._flush_at = now + (BUSY_QUIET_S if busy else QUIET_S)

    def lose(self, size: int, reason: str) -> None:
        """So many bytes will never come: say it in the log, and in the result."""
        self.dropped_bytes += size
        self.lost_bytes += size
        self.remark(f"{size} bytes were dropped here: {reason}")

    def due_at(self, behind: Collection[int] = ()) -> float | None:
        """When what is held back has been so for long enough, or None. Streams that are `behind` hold it until they are not."""
        times = []
        for stream, cutter in self._cutters.items():
            if stream not in behind:
                mask = self._masks[stream]
                times += [cutter.due_at(), None if mask is None else mask.due_at()]
        return min((t for t in times if t is not None), default=None)

    def next_at(self, behind: Collection[int] = ()) -> float | None:
        """When :meth:`tick` has something to do, or None."""
        return min((t for t in (self.due_at(behind), self._flush_at) if t is not None), default=None)

    def tick(self, now: float, behind: Collection[int] = ()) -> None:
        """Let go what has been held back for long enough, but not of streams that are `behind`: what the job wrote next to it
        may be known, and was not fed yet."""
        for stream, cutter in self._cutters.items():
            if stream in behind:
                continue
            mask = self._masks[stream]
            pieces = []
            if mask is not None:
                held, since = mask.release(now)
                pieces = cutter.feed(held, since) if held else []
            for piece in pieces + cutter.release(now):
                self._emit(stream, piece, now)
                self._flush_at = now
        if self._flush_at is not None and now >= self._flush_at:
            self._outbox.flush()
            self._flush_at = None

    def finish(self, now: float) -> None:
        """The streams have ended: let everything go."""
        for stream, cutter in self._cutters.items():
            mask = self._masks[stream]
            pieces = [] if mask is None else cutter.feed(mask.finish(), now)
            for piece in pieces + cutter.finish():
                self._emit(stream, piece, now)
        if self._missed_bytes:
            self._say_missed()
        self._echo.finish()
        self._outbox.flush()
        self._flush_at = None

    def masked(self, text: str | None) -> str | None:
        """The text without the job's secrets."""
        return self._mask.text(text)

    def remark(self, text: str) -> None:
        """Add a line of the agent's own to the log."""
        self._keep(Segment(REMARK, self._stamp(0.0), f"[hodei: {text}]\n".encode()), 1, force=True)

    def _emit(self, stream: int, piece: Piece, now: float) -> None:
        data = piece.data
        room = self._max_bytes - self._output_bytes
        if len(data) > room and not self.truncated:
            head = data[:room]
            head = head[: len(head) - unfinished_character(head)]
            if head:
                self._emit(stream, piece._replace(data=head), now)
            data = data[len(head) :]
            self.truncated = True
            self.remark(f"log cut at {self._max_bytes} bytes")
        entries = count_entries(data)
        if self.truncated:
            self.dropped_entries += entries
            self.dropped_bytes += len(data)
            return
        self._output_bytes += len(data)
        if self._missed_bytes and self._outbox.has_room():
            self._say_missed()
        segment = Segment(stream, self._stamp(now - piece.read_at), data, piece.flags)
        if self._missed_bytes or not self._keep(segment, entries):
            self._missed_entries += entries
            self._missed_bytes += len(data)

    def _keep(self, segment: Segment, entries: int, *, force: bool = False) -> bool:
        if not self._outbox.put(segment, entries, force=force):
            return False
        self.entries += entries
        self.bytes += len(segment.data)
        self._echo.put(segment.stream, segment.data)
        return True

    def _say_missed(self) -> None:
        entries, size = self._missed_entries, self._missed_bytes
        self._missed_entries = self._missed_bytes = 0
        self.dropped_entries += entries
        self.dropped_bytes += size
        self.lost_bytes += size
        self.remark(f"{entries} lines ({size} bytes) were dropped here, the platform took the log too slowly")

    def _stamp(self, ago_s: float) -> int:
        self._last_at_us = max(self._last_at_us, self._wall_us() - int(ago_s * 1e6))
        return self._last_at_us
