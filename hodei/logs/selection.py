"""Which entries of a log are wanted: of a stream, since a moment, with a text in them."""

from __future__ import annotations

from dataclasses import dataclass
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

    def takes(self, entry: Entry) -> bool:
        """Whether the entry is wanted."""
        if self.stream is not None and entry.stream != self.stream:
            return False
        if self.since_us is not None and entry.at_us < self.since_us:
            return False
        if self.grep is None:
            return True
        if self.ignore_case:
            return self.grep.casefold() in entry.data.decode("utf-8", "replace").casefold()
        return self.grep.encode() in entry.data


EVERYTHING = Selection()
