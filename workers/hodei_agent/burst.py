"""Where a job's output waits when it comes faster than it can be worked on.

Whoever reads a pipe holds it meanwhile, and the job waits at its next write. So what is read goes into the same little memory
each time, which stays in the processor's cache, and from there into a file that is as good as in memory: fresh memory costs
more, because the kernel clears each page of it first, or moves others away to find large ones.
"""

from __future__ import annotations

import os

from hodei_agent.spool import Record, Spool

READ_BYTES = 128 * 1024


class Burst:
    """A queue of what was read. Not for several threads at once. The file is in `folder`, has no name, and is given back
    whenever all that is in it was taken."""

    def __init__(self, folder: str) -> None:
        self._spool = Spool(folder)
        self._near = memoryview(bytearray(READ_BYTES))
        self._buffers = [self._near]
        self.is_refused = False
        """The file has no room for more, so what was read last is in memory."""

    def read(self, descriptor: int) -> bytes:
        """What is in the pipe, up to 128 KiB; empty at its end. Raises BlockingIOError when there is nothing."""
        return bytes(self._near[: os.readv(descriptor, self._buffers)])

    def put(self, descriptor: int) -> Record | bytes:
        """Like :meth:`read`, but what is read waits in the file until :meth:`take`, if that has room."""
        size = os.readv(descriptor, self._buffers)
        if not size:
            return b""
        try:
            return self._spool.append(self._near[:size])
        except OSError:
            self.is_refused = True
            return bytes(self._near[:size])

    def take(self, stored: Record | bytes) -> bytes:
        """The bytes, in the order of their putting. Raises OSError when the disk does not give them back."""
        return stored if isinstance(stored, bytes) else self._spool.take(stored)
