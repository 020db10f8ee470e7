"""Room for what a job writes faster than fresh memory can be had.

Whoever reads a pipe holds it meanwhile, and the job waits at its next write. Into memory that the kernel has yet to find, page
after page, a read takes twice as long: so the room is made ready before, in large pages where there are any.
"""

from __future__ import annotations

import mmap
import os

READ_BYTES = 1024 * 1024
KEPT_BYTES = 2 * 1024 * 1024
"""So much stays ready between two bursts."""
_STEP_BYTES = 2 * 1024 * 1024
_HUGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)
_POPULATE_WRITE = 23  # madvise(2), since Linux 5.14
_DONT_NEED = getattr(mmap, "MADV_DONTNEED", None)


class Room:
    """Memory that is filled from its beginning, `size` bytes at most, and used again from there after :meth:`clear`."""

    def __init__(self, size: int) -> None:
        self._size = (size + _STEP_BYTES - 1) // _STEP_BYTES * _STEP_BYTES
        self._memory: mmap.mmap | None = None
        self._used = 0
        self._ready = 0

    def read(self, descriptor: int) -> memoryview | bytes:
        """What is in the pipe, up to 1 MiB; it stays as it is until the room is cleared. Empty at the pipe's end. Raises
        BlockingIOError when there is nothing."""
        end = self._used + READ_BYTES
        if end > self._size or not self._make_ready(end):
            return os.read(descriptor, READ_BYTES)
        assert self._memory is not None
        place = memoryview(self._memory)[self._used : end]
        size = os.readv(descriptor, [place])
        self._used += size
        return place[:size]

    def clear(self) -> None:
        """Nobody uses what was read any more."""
        self._used = 0
        if self._ready > KEPT_BYTES:
            self._advise(_DONT_NEED, KEPT_BYTES, self._ready - KEPT_BYTES)
            self._ready = KEPT_BYTES

    def _make_ready(self, end: int) -> bool:
        """Whether there is memory at all. That it is ready is only a matter of speed."""
        if self._memory is None:
            try:
                self._memory = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            except OSError:
                return False
            self._advise(_HUGE_PAGES, 0, self._size)
        while self._ready < end:
            self._advise(_POPULATE_WRITE, self._ready, _STEP_BYTES)
            self._ready += _STEP_BYTES
        return True

    def _advise(self, advice: int | None, start: int, size: int) -> None:
        """What an older kernel, or another system, does not know it does without."""
        if self._memory is not None and advice is not None:
            try:
                self._memory.madvise(advice, start, size)
            except (OSError, ValueError):
                pass
