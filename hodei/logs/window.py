"""The newest part of a running log, read once and written as events once for all who follow it.

Only a convenience: whoever is not in it, or does not find a window at all, reads the same from Postgres.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from hodei.logs import chunks, forms
from hodei.logs.chunks import Chunk, Entry, Log
from hodei.storage.database import Database

KEPT_BYTES = 4 * 1024 * 1024
"""How much of a log is kept for its followers; one that is further behind reads for itself."""
ENTRIES_PER_PIECE = 1000


@dataclass(frozen=True)
class Piece:
    """Consecutive entries of one attempt."""

    attempt: int
    entries: tuple[Entry, ...]

    @property
    def first(self) -> int:
        return self.entries[0].seq

    @property
    def last(self) -> int:
        return self.entries[-1].seq

    @cached_property
    def events(self) -> bytes:
        """All of its entries as Server-Sent Events."""
        return forms.events(self.entries, self.attempt)

    @cached_property
    def size_bytes(self) -> int:
        """About what it takes in memory, its events included."""
        return sum(2 * len(entry.data) + 300 for entry in self.entries)

    def after(self, seq: int) -> Piece:
        """The part with the entries above ``seq``."""
        if seq < self.first:
            return self
        return Piece(self.attempt, self.entries[seq + 1 - self.first :])


def cut(chunk: Chunk, attempt: int) -> Iterator[Piece]:
    """The chunk in pieces of a bounded number of entries."""
    part: list[Entry] = []
    for entry in chunk.entries():
        part.append(entry)
        if len(part) == ENTRIES_PER_PIECE:
            yield Piece(attempt, tuple(part))
            part = []
    if part:
        yield Piece(attempt, tuple(part))


class Window:
    """The newest pieces of one attempt's log. Safe to share: one reads, the others wait for what it read."""

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self._lock = threading.Lock()
        self._pieces: deque[Piece] = deque()
        self._last_seq = 0
        self._size_bytes = 0

    def after(self, database: Database, log: Log, seq: int) -> Piece | None:
        """The stored entries that follow ``seq``, as many as there are at hand.

        None when they are older than what is kept: read them from the database.
        """
        with self._lock:
            if self._pieces and seq + 1 < self._pieces[0].first:
                return None
            for piece in reversed(self._pieces):
                if piece.first <= seq + 1 <= piece.last:
                    return piece.after(seq)
                if piece.last <= seq:
                    break
            if not self._pieces or self._pieces[-1].last != seq:
                self._pieces.clear()  # whoever follows from further on is nearer to the end: the window goes there
                self._size_bytes = self._last_seq = 0
            return self._read_on(database, log, seq)

    def _read_on(self, database: Database, log: Log, seq: int) -> Piece | None:
        found: Piece | None = None
        for chunk in chunks.read(database, log, after=seq, after_seq=self._last_seq):
            self._last_seq = chunk.seq
            for piece in cut(chunk, self._attempt):
                if piece.last <= seq:
                    continue
                found = found or piece.after(seq)
                self._pieces.append(piece)
                self._size_bytes += piece.size_bytes
        while self._size_bytes > KEPT_BYTES and len(self._pieces) > 1:
            self._size_bytes -= self._pieces.popleft().size_bytes
        return found
