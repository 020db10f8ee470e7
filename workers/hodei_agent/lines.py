"""Cutting a stream into pieces that end with a line where they can."""

from __future__ import annotations

from typing import NamedTuple

from hodei_agent.frames import SEGMENT_SPLIT_LINE
from hodei_agent.protocol import MAX_LINE_BYTES

HOLD_LINE_S = 0.05
HOLD_CHARACTER_S = 1.0
"""The first bytes of a UTF-8 character show nothing, so they may wait longer than an unfinished line."""


class Piece(NamedTuple):
    """Bytes that become one segment."""

    data: bytes
    flags: int
    read_at: float


def unfinished_character(data: bytes) -> int:
    """How many bytes at the end are the beginning of a UTF-8 character that is not whole: 0 to 3."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4 if byte < 0xF8 else 0
            return back if back < length else 0
    return 0


class LineCutter:
    """Holds one stream's unfinished line for a moment, then lets it go.

    Every piece has at most 64 KiB. It ends after a newline, else (held for 50 ms, or longer than 64 KiB) at
    the end of a character. Together the pieces are exactly what was fed. Times are seconds on the caller's
    clock.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._rest_since = 0.0
        self._rest_is_character = False

    def feed(self, block: bytes, now: float) -> list[Piece]:
        """Add what was read; return the pieces that need not wait."""
        since = self._rest_since if self._rest else now
        rest, at = self._rest, 0
        pieces: list[Piece] = []
        while len(rest) + len(block) - at > MAX_LINE_BYTES:
            if len(rest) > MAX_LINE_BYTES - 4:
                rest, block, at = b"", rest + block[at:], 0
            until = at + MAX_LINE_BYTES - len(rest)
            end = block.rfind(b"\n", at, until) + 1
            flags = 0
            if end == 0:
                end = until - unfinished_character(block[until - 4 : until])
                flags = SEGMENT_SPLIT_LINE
            pieces.append(Piece(rest + block[at:end], flags, since))
            rest, since, at = b"", now, end
        end = block.rfind(b"\n", at) + 1
        if end > at:
            pieces.append(Piece(rest + block[at:end], 0, since))
            rest, since, at = b"", now, end
        self._rest = rest + block[at:]
        self._rest_since = since
        self._rest_is_character = False
        return pieces

    def due_at(self) -> float | None:
        """When :meth:`release` has something to give, or None."""
        if not self._rest:
            return None
        return self._rest_since + (HOLD_CHARACTER_S if self._rest_is_character else HOLD_LINE_S)

    def release(self, now: float) -> list[Piece]:
        """The unfinished line, if it has been held for long enough."""
        due = self.due_at()
        if due is None or now < due:
            return []
        if self._rest_is_character:
            return self.finish()
        kept = unfinished_character(self._rest)
        data, self._rest = self._rest[: len(self._rest) - kept], self._rest[len(self._rest) - kept :]
        self._rest_is_character = bool(self._rest)
        return [Piece(data, 0, self._rest_since)] if data else []

    def finish(self) -> list[Piece]:
        """All that is still held, at the stream's end."""
        data, self._rest = self._rest, b""
        self._rest_is_character = False
        return [Piece(data, 0, self._rest_since)] if data else []
