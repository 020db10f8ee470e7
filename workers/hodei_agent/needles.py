"""Finding many byte strings at once in output, in time that grows with the output and not with their number."""

from __future__ import annotations

from typing import Iterable

HEAD_BYTES = 4
"""No needle is shorter."""
GRAM_BYTES = 4
LONG_BYTES = 2 * GRAM_BYTES - 1
"""A string of this length holds a whole gram at a multiple of four, wherever it begins."""
FEW = 24
"""Up to so many needles each is looked for by itself, with the C library's search."""


class Needles:
    """A fixed set of byte strings of four bytes or more each.

    Of many, only those are looked for one by one of which a gram (four bytes at a multiple of four) is in the output.
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        kept = {needle for needle in needles if len(needle) >= HEAD_BYTES}
        self._all = sorted(kept, key=len, reverse=True)
        self.longest = len(self._all[0]) if self._all else 0
        self._beginnings = {needle[:size] for needle in kept for size in range(1, HEAD_BYTES)}
        self._by_head: dict[bytes, list[bytes]] = {}
        for needle in self._all:
            if len(needle) > HEAD_BYTES:
                self._by_head.setdefault(needle[:HEAD_BYTES], []).append(needle)
        self._short = [needle for needle in self._all if len(needle) < LONG_BYTES]
        self._grams: set[int] = set()
        self._by_gram: dict[int, list[bytes]] = {}
        if len(self._all) > FEW:
            self._note_grams()

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where needles are: start and end, by start. Of one needle, overlapping places are one span."""
        found: list[tuple[int, int]] = []
        for needle in self._candidates(data):
            size = len(needle)
            first = last = data.find(needle)
            while last >= 0:
                then = data.find(needle, last + 1)
                if then < 0 or then >= last + size:
                    found.append((first, last + size))
                    first = then
                last = then
        found.sort()
        return found

    def unfinished(self, data: bytes) -> int:
        """From where the data may be the beginning of a needle that is not whole; its length if nowhere."""
        best = end = len(data)
        for head, needles in self._by_head.items():
            at = data.find(head, max(0, end - len(needles[0]) + 1), best + HEAD_BYTES - 1)
            while at >= 0:
                rest = data[at:]
                if any(len(needle) > len(rest) and needle.startswith(rest) for needle in needles):
                    best = at
                    break
                at = data.find(head, at + 1, best + HEAD_BYTES - 1)
        if best < end:
            return best
        for size in range(min(HEAD_BYTES - 1, end), 0, -1):
            if data[end - size :] in self._beginnings:
                return end - size
        return end

    def _candidates(self, data: bytes) -> Iterable[bytes]:
        if not self._grams:
            return self._all
        view = memoryview(data)[: len(data) // GRAM_BYTES * GRAM_BYTES].cast("I")
        found = set(self._short)
        for gram in self._grams.intersection(view):
            found.update(self._by_gram[gram])
        return found

    def _note_grams(self) -> None:
        for needle in self._all:
            if len(needle) < LONG_BYTES:
                continue
            for at in range(GRAM_BYTES):
                (gram,) = memoryview(needle[at : at + GRAM_BYTES]).cast("I")
                self._by_gram.setdefault(gram, []).append(needle)
        self._grams = set(self._by_gram)
