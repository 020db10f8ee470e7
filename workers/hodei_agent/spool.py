"""First-in first-out stores of byte strings, for output that is not taken yet: on disk, and in memory first."""

from __future__ import annotations

import os
from collections import deque
from typing import NamedTuple

CHUNK_BYTES = 16 * 1024 * 1024


class Record(NamedTuple):
    """Where a byte string lies."""

    chunk: int
    offset: int
    size: int


class Spool:
    """Append at the end, take from the front. Not for several threads at once.

    Files are unlinked as soon as they are open: nothing is left behind whatever happens, and no job finds
    them. A file is given back when its last record was taken, so at most one file's worth of disk is held
    in vain.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._chunks: deque[tuple[int, int]] = deque()
        self._numbers = 0
        self._written = 0
        self.size_bytes = 0

    def append(self, data: bytes | memoryview) -> Record:
        """Store the bytes. Raises OSError, for example when the disk is full; then nothing was stored."""
        if not self._chunks or self._written >= CHUNK_BYTES:
            self._open()
        number, descriptor = self._chunks[-1]
        offset, done = self._written, 0
        view = memoryview(data)
        while done < len(data):
            done += os.pwrite(descriptor, view[done:], offset + done)
        self._written = offset + len(data)
        self.size_bytes += len(data)
        return Record(number, offset, len(data))

    def take(self, record: Record) -> bytes:
        """Read a record and forget it and all before it. Raises OSError."""
        while self._chunks[0][0] < record.chunk:
            os.close(self._chunks.popleft()[1])
        try:
            return self._read(self._chunks[0][1], record)
        finally:
            self.size_bytes -= record.size
            if self.size_bytes == 0:
                self.close()

    def close(self) -> None:
        """Give all disk space back."""
        while self._chunks:
            os.close(self._chunks.popleft()[1])
        self.size_bytes = 0

    @staticmethod
    def _read(descriptor: int, record: Record) -> bytes:
        parts, have = [], 0
        while have < record.size:
            part = os.pread(descriptor, record.size - have, record.offset + have)
            if not part:
                raise OSError("the spool file is shorter than it was")
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def _open(self) -> None:
        path = f"{self._folder}/spool-{id(self)}-{self._numbers}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        self._chunks.append((self._numbers, descriptor))
        self._numbers += 1
        self._written = 0


class Backlog:
    """A queue of byte strings: so many bytes in memory, what is beyond on disk. Not for several threads at once."""

    def __init__(self, folder: str, memory_bytes: int) -> None:
        self._spool = Spool(folder)
        self._most_in_memory = memory_bytes
        self._memory_bytes = 0
        self._queue: deque[bytes | Record] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def size_bytes(self) -> int:
        """All that waits."""
        return self._memory_bytes + self._spool.size_bytes

    @property
    def spool_bytes(self) -> int:
        """What waits on disk."""
        return self._spool.size_bytes

    def append(self, data: bytes) -> None:
        """Add at the end. Raises OSError when it must go to disk and that is full; then nothing was added."""
        if self._memory_bytes + len(data) <= self._most_in_memory:
            self.keep(data)
        else:
            self._queue.append(self._spool.append(data))

    def keep(self, data: bytes) -> None:
        """Add at the end, in memory however much is there."""
        self._memory_bytes += len(data)
        self._queue.append(data)

    def take(self) -> bytes:
        """Remove the oldest and return it. Raises IndexError when there is none, OSError from the disk."""
        stored = self._queue.popleft()
        if isinstance(stored, Record):
            return self._spool.take(stored)
        self._memory_bytes -= len(stored)
        return stored

    def clear(self) -> None:
        """Forget everything."""
        self._queue.clear()
        self._memory_bytes = 0
        self._spool.close()
