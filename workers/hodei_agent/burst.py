"""What the job writes faster than it could be copied: moved out of its pipe page by page, and copied when it pauses.

A job that fills its pipe waits for the reader, and a reader that copies waits for fresh memory, page after page. Linux can
move the pages themselves into another pipe (splice(2)), which takes a fraction of that.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections import deque
from typing import NamedTuple

MOST_BYTES = 24 * 1024 * 1024
"""Of the 64 MiB that Linux lets one user have in pipes (pipe-user-pages-soft in pipe(7)) for all of his workers."""
LEAST_PIPE_BYTES = 256 * 1024
"""Smaller ones would be so many that the descriptors run out."""
_F_SETPIPE_SZ = 1031
_F_GETPIPE_SZ = 1032
_splice = getattr(os, "splice", None)  # Python 3.10
_FLAGS = 3  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK


class _Side(NamedTuple):
    """A pipe of our own."""

    out: int
    into: int


class Burst:
    """A queue of bytes in pipes of our own. It is to be emptied soon: a page may be a file's, which can change (sendfile)."""

    def __init__(self) -> None:
        self._sides: deque[_Side] = deque()
        self._last_bytes = 0
        self._poller = select.poll()
        self.size_bytes = 0

    def take(self, descriptor: int) -> int | None:
        """Move what is in the pipe of that descriptor; its size, 0 at the end of the pipe.

        None when nothing can be moved, and it is to be read instead. Raises BlockingIOError when there is nothing.
        """
        if _splice is None or self.size_bytes >= MOST_BYTES or not (self._sides or self._grow(descriptor)):
            return None
        try:
            return self._move(descriptor)
        except BlockingIOError:  # there is nothing, or no place for it
            if not self._last_bytes or not self._is_readable(descriptor):
                raise
        except OSError:  # not a pipe
            return None
        return self._move(descriptor) if self._grow(descriptor) else None

    def read(self, size: int) -> bytes:
        """Take out what one :meth:`take` moved; they come out in the order in which they were moved."""
        parts = []
        self.size_bytes -= size
        while size and self._sides:
            try:
                part = os.read(self._sides[0].out, size)
            except BlockingIOError:
                self._drop_first()
                continue
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Give the pipes back."""
        while self._sides:
            self._drop_first()
        self._last_bytes = self.size_bytes = 0

    def _move(self, descriptor: int) -> int:
        size: int = _splice(descriptor, self._sides[-1].into, MOST_BYTES, flags=_FLAGS)  # type: ignore[misc]
        self._last_bytes += size
        self.size_bytes += size
        return size

    def _is_readable(self, descriptor: int) -> bool:
        self._poller.register(descriptor, select.POLLIN)
        try:
            return bool(self._poller.poll(0))
        finally:
            self._poller.unregister(descriptor)

    def _grow(self, like: int) -> bool:
        """One more pipe, as large as the job's. False where that is more than this user may have."""
        try:
            wanted = fcntl.fcntl(like, _F_GETPIPE_SZ)
            side = _Side(*os.pipe())
        except OSError:
            return False
        try:
            has = fcntl.fcntl(side.into, _F_SETPIPE_SZ, wanted)
        except OSError:
            has = 0
        if has < LEAST_PIPE_BYTES:
            os.close(side.out)
            os.close(side.into)
            return False
        os.set_blocking(side.out, False)
        self._sides.append(side)
        self._last_bytes = 0
        return True

    def _drop_first(self) -> None:
        side = self._sides.popleft()
        os.close(side.out)
        os.close(side.into)
