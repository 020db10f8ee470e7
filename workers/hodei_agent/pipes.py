"""The job's two pipes: drained first, split and masked later, so that a job hardly ever waits for its log."""

from __future__ import annotations

import fcntl
import os
import select
import time
from collections import deque
from typing import NamedTuple

from hodei_agent.burst import Burst
from hodei_agent.intake import Intake
from hodei_agent.protocol import STDERR, STDOUT
from hodei_agent.spool import Record

SMALL_READ_BYTES = 64 * 1024
MOST_BURST_BYTES = 32 * 1024 * 1024
LEAST_BURST_BYTES = 1024 * 1024
BURST_SHARE_OF_MEMORY = 16
"""Of the worker's memory limit, at most the sixteenth part is for output that was read and not split yet."""
BURST_FROM_BYTES = 128 * 1024
"""A read that gives this much begins a burst."""
DRAIN_FIRST_S = 0.03
"""For so long a burst is only read."""
BURST_PAUSE_S = 0.001
"""A burst is over when nothing came for so long."""
MOST_LULLS = 4
"""Or when so many reads in succession gave little: what is left of a write that did not fit is no end yet."""
AWAKE_S = 0.0001
"""For so long one looks for more without sleeping, where there is another processor for the job: being woken takes as long as
the job needs to fill its pipe."""
TURN_S = 0.002
"""After so much work the main loop looks at signals and messages: an end is noticed when it comes."""
BUSY_S = 0.01
HOLD_OFF_S = 0.005
"""A pipe that is read more often than every 10 ms is left alone for 5 ms: waking for each line costs the job more than
the writing of it. One of the two at most, and what comes on the other one is read at once, after all that came before on
this one."""
LOOK_AGAIN_S = 0.02
MOST_LEFT_BYTES = 4 * 1024 * 1024
"""More than a pipe holds was not written by the job."""
_F_GETPIPE_SZ = 1032


class Block(NamedTuple):
    """What one read gave, and when. `busy`: there will be more within milliseconds."""

    stream: int
    data: bytes | Record
    size: int
    read_at: float
    busy: bool


class Pipe:
    """One end of ours, and what to expect of it."""

    def __init__(self, descriptor: int, stream: int) -> None:
        self.descriptor = descriptor
        self.stream = stream
        self.is_fast = False
        self.last_read_at = 0.0
        self.looked_at = 0.0
        self.held_until: float | None = None
        # Where pipes are small, only few bytes fit in while nobody reads.
        self.hold_off_bytes = fcntl.fcntl(descriptor, _F_GETPIPE_SZ) // 8


class Pipes:
    """Reads what the job writes and feeds it to the intake, never waiting for more than a millisecond.

    Of a burst, up to `burst_bytes` (32 MiB at most) are read before any of it is worked on. When the intake is not ready
    and that much waits, the pipes are left alone and the job waits at its next write.
    """

    def __init__(self, intake: Intake, folder: str, memory_limit_bytes: int | None = None) -> None:
        self._intake = intake
        share = (memory_limit_bytes or 1 << 62) // BURST_SHARE_OF_MEMORY
        self._burst_bytes = max(LEAST_BURST_BYTES, min(MOST_BURST_BYTES, share))
        self._pipes: list[Pipe] = []
        self._poller = select.poll()
        self._blocks: deque[Block] = deque()
        self._burst = Burst(folder)
        self._awake_s = AWAKE_S if len(os.sched_getaffinity(0)) > 1 else 0.0
        self._waiting_bytes = 0
        self._waiting_blocks = {STDOUT: 0, STDERR: 0}
        self.is_muted = False
        """What is read from now on is thrown away."""

    def open(self, stdout: int, stderr: int) -> None:
        """Take over both descriptors, which do not block."""
        self._pipes = [Pipe(stdout, STDOUT), Pipe(stderr, STDERR)]
        for pipe in self._pipes:
            self._poller.register(pipe.descriptor, select.POLLIN)

    @property
    def is_full(self) -> bool:
        """Whether nothing is read, because nobody takes what was."""
        return self._waiting_bytes >= self._burst_bytes

    def wanted(self) -> dict[int, int]:
        """The descriptors to wait for now, and their streams."""
        if self.is_full:
            return {}
        return {pipe.descriptor: pipe.stream for pipe in self._pipes if pipe.held_until is None}

    def behind(self, now: float = 0.0) -> set[int]:
        """The streams of which there may be more than the intake was fed: it waits here, or in a pipe that was not looked at
        since `now`. Of a full one nothing is looked at."""
        waiting = {stream for stream, blocks in self._waiting_blocks.items() if blocks}
        return waiting | {pipe.stream for pipe in self._pipes if self.is_full or pipe.looked_at < now}

    def next_at(self) -> float | None:
        """When :meth:`work` is due though no pipe is ready, on the monotonic clock, or None."""
        times = [pipe.held_until for pipe in self._pipes if pipe.held_until is not None and not self.is_full]
        if self._blocks:
            times.append(0.0 if self._intake.is_ready() else time.monotonic() + LOOK_AGAIN_S)
        return min(times, default=None)

    def work(self) -> bool:
        """Read what is there, and feed the intake. Whether anything was read."""
        began = now = time.monotonic()
        was_read = is_burst = False
        lulls = 0
        while True:
            size = self._read_all(now)
            was_read = was_read or size > 0
            is_burst = is_burst or size >= BURST_FROM_BYTES
            now = time.monotonic()
            if is_burst and not self.is_full and self._is_within_burst(now):
                lulls = 0 if size >= SMALL_READ_BYTES else lulls + 1
                if lulls <= MOST_LULLS if size else self._more_comes():
                    continue
                return was_read
            while self._feed_one(now):
                now = time.monotonic()
                if now >= began + TURN_S:
                    return was_read
                if is_burst:
                    break
            else:
                return was_read

    def drain(self) -> None:
        """Read what is left, without waiting for strangers that hold the other ends, feed it all, and close."""
        now = time.monotonic()
        for pipe in list(self._pipes):
            left_bytes = MOST_LEFT_BYTES
            while left_bytes > 0:
                size = self._read(pipe, now)
                if not size:
                    break
                left_bytes -= size
            if pipe in self._pipes:
                self._close(pipe)
        while self._blocks:
            self._feed(now)

    def _read_all(self, now: float) -> int:
        """Read each pipe once, stdout first: of what is there at the same moment, that is the likelier order."""
        size = 0
        for pipe in list(self._pipes):
            if self.is_full:
                break
            some = self._read(pipe, now)
            size += some if some != SMALL_READ_BYTES else some + self._read(pipe, now)
        return size

    def _is_within_burst(self, now: float) -> bool:
        return bool(self._blocks) and now < self._blocks[0].read_at + DRAIN_FIRST_S

    def _more_comes(self) -> bool:
        until = time.monotonic() + self._awake_s
        while time.monotonic() < until:
            if self._poller.poll(0):
                return True
            os.sched_yield()
        return bool(self._poller.poll(BURST_PAUSE_S * 1000))

    def _read(self, pipe: Pipe, now: float) -> int:
        if pipe.held_until is not None and now >= pipe.held_until:
            pipe.held_until = None
        pipe.looked_at = now
        try:
            data = self._take_from(pipe)
        except BlockingIOError:
            return 0
        size = data.size if isinstance(data, Record) else len(data)
        if not size:
            self._close(pipe)
            return 0
        pipe.is_fast = size >= SMALL_READ_BYTES
        is_busy = now - pipe.last_read_at < BUSY_S and size < pipe.hold_off_bytes
        pipe.last_read_at = now
        if is_busy and all(other.held_until is None for other in self._pipes if other is not pipe):
            pipe.held_until = now + HOLD_OFF_S
        if not self.is_muted:
            self._blocks.append(Block(pipe.stream, data, size, now, pipe.held_until is not None))
            self._waiting_bytes += size
            self._waiting_blocks[pipe.stream] += 1
        return size

    def _take_from(self, pipe: Pipe) -> Record | bytes:
        if not pipe.is_fast:
            return os.read(pipe.descriptor, SMALL_READ_BYTES)
        if self.is_muted or not self._blocks:
            return self._burst.read(pipe.descriptor)
        data = self._burst.put(pipe.descriptor)
        if self._burst.is_refused:
            self._burst_bytes = LEAST_BURST_BYTES
        return data

    def _feed_one(self, now: float) -> bool:
        if not self._blocks or not self._intake.is_ready():
            return False
        self._feed(now)
        return True

    def _feed(self, now: float) -> None:
        block = self._blocks.popleft()
        self._waiting_bytes -= block.size
        self._waiting_blocks[block.stream] -= 1
        try:
            data = self._burst.take(block.data)
        except OSError as error:
            self._intake.lose(
                block.size, f"the worker's disk did not give them back ({error.strerror or error})"
            )
            return
        if not self.is_muted:
            self._intake.feed(block.stream, data, block.read_at, now, busy=block.busy)

    def _close(self, pipe: Pipe) -> None:
        self._poller.unregister(pipe.descriptor)
        os.close(pipe.descriptor)
        self._pipes.remove(pipe)
