"""Which entries of a log are wanted: of a stream, since a moment, in a line with a text in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hodei.logs.chunks import Entry


@dataclass(frozen=True, kw_only=True)
class Selection:
    """All of its conditions must hold. ``grep`` is a substring, so the time that it takes grows with the log alone."""

    stream: str | None = None
    since_us: int | None = None
    grep: str | None = None
    ignore_case: bool = False

    @property
    def looks_at_entries(self) -> bool:
        """Whether entries must be looked at one by one."""
        return self.since_us is not None or self.grep is not None

    def admitted(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        """Those of the stream and since the moment; whether their lines are wanted is another question."""
        return entries if self.stream is None and self.since_us is None else filter(self.admits, entries)

    def admits(self, entry: Entry) -> bool:
        """Whether the entry is of the stream and since the moment."""
        if self.stream is not None and entry.stream != self.stream:
            return False
        return self.since_us is None or entry.at_us >= self.since_us

    def matches(self, data: bytes) -> bool:
        """Whether the text is in a line, or in a part of one."""
        if self.grep is None:
            return True
        if self.ignore_case:
            return self._folded in data.decode("utf-8", "replace").casefold()
        return self._exact in data

    @cached_property
    def reach_bytes(self) -> int:
        """How much of a line's end may, with what follows it, be the text."""
        return 4 * len(self._folded) if self.ignore_case else len(self._exact)

    @cached_property
    def _exact(self) -> bytes:
        return (self.grep or "").encode()

    @cached_property
    def _folded(self) -> str:
        return (self.grep or "").casefold()


EVERYTHING = Selection()
