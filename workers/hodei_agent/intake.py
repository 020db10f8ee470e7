"""From what the job's pipes gave to segments in the outbox: cutting, the cap, and what was dropped."""

from __future__ import annotations

import time
from typing import Callable

from hodei_agent.echo import Echo
from hodei_agent.frames import Segment, count_entries
from hodei_agent.lines import LineCutter, Piece, unfinished_character
from hodei_agent.masking import Unmasked
from hodei_agent.outbox import Outbox
from hodei_agent.protocol import REMARK, STDERR, STDOUT

QUIET_S = 0.003
"""After this long without output, what is there is sent."""


def wall_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Intake:
    """Takes blocks of both streams, in the order in which they were read. Times are monotonic seconds."""

    def __init__(
        self, outbox: Outbox, echo: Echo, max_bytes: int, wall_us: Callable[[], int] = wall_us
    ) -> None:
        self._outbox = outbox
        self._echo = echo
        self._max_bytes = max_bytes
        self._wall_us = wall_us
        self._filters = {STDOUT: Unmasked(), STDERR: Unmasked()}
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

    def feed(self, stream: int, block: bytes, now: float) -> None:
        """Add a block."""
        pieces = self._cutters[stream].feed(self._filters[stream].feed(block), now)
        for piece in pieces:
            self._emit(stream, piece, now)
        if pieces:
            self._flush_at = now + QUIET_S

    def next_at(self) -> float | None:
        """When :meth:`tick` has something to do, or None."""
        times = [cutter.due_at() for cutter in self._cutters.values()]
        return min((t for t in [*times, self._flush_at] if t is not None), default=None)

    def tick(self, now: float) -> None:
        """Let go what has been held back for long enough."""
        for stream, cutter in self._cutters.items():
            for piece in cutter.release(now):
                self._emit(stream, piece, now)
                self._flush_at = now
        if self._flush_at is not None and now >= self._flush_at:
            self._outbox.flush()
            self._flush_at = None

    def finish(self, now: float) -> None:
        """The streams have ended: let everything go."""
        for stream, cutter in self._cutters.items():
            for piece in cutter.feed(self._filters[stream].flush(), now) + cutter.finish():
                self._emit(stream, piece, now)
        if self._missed_bytes:
            self._say_missed()
        self._echo.finish()
        self._outbox.flush()

    def remark(self, text: str) -> None:
        """Add a line of the agent's own to the log."""
        self._keep(Segment(REMARK, self._stamp(0.0), f"[hodei: {text}]\n".encode()), force=True)

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
        if self.truncated:
            self.dropped_entries += count_entries(data)
            self.dropped_bytes += len(data)
            return
        self._output_bytes += len(data)
        if self._missed_bytes and self._outbox.has_room():
            self._say_missed()
        segment = Segment(stream, self._stamp(now - piece.read_at), data, piece.flags)
        if self._missed_bytes or not self._keep(segment):
            self._missed_entries += count_entries(data)
            self._missed_bytes += len(data)

    def _keep(self, segment: Segment, *, force: bool = False) -> bool:
        if not self._outbox.put(segment, force=force):
            return False
        self.entries += count_entries(segment.data)
        self.bytes += len(segment.data)
        self._echo.put(segment.stream, segment.data)
        return True

    def _say_missed(self) -> None:
        entries, size = self._missed_entries, self._missed_bytes
        self._missed_entries = self._missed_bytes = 0
        self.dropped_entries += entries
        self.dropped_bytes += size
        self.remark(f"{entries} lines ({size} bytes) were dropped here, the platform took the log too slowly")

    def _stamp(self, ago_s: float) -> int:
        self._last_at_us = max(self._last_at_us, self._wall_us() - int(ago_s * 1e6))
        return self._last_at_us
