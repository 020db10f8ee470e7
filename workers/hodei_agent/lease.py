"""For how long the agent may go on without hearing from the platform."""

from __future__ import annotations

import time
from typing import Callable


def clock() -> float:
    """Seconds that also pass while this machine sleeps, as they do for the platform."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Renewed by every answer, from the moment at which the answered call was sent.

    Before the registration was answered there is no length yet and it runs for `first_s`.
    """

    def __init__(self, first_s: float, clock: Callable[[], float] = clock) -> None:
        self.now = clock
        self._length_s = first_s
        self._until = clock() + first_s

    def renew(self, sent_at: float, length_s: float | None = None) -> float:
        """Note an answer to a call sent at `sent_at`, and the lease's new length if the answer had one. Until when that answer
        holds, whatever comes after it."""
        if length_s is not None and length_s != self._length_s:
            self._length_s = length_s
            self._until = sent_at + length_s
        self._until = max(self._until, sent_at + self._length_s)
        return sent_at + self._length_s

    @property
    def remaining_s(self) -> float:
        """Seconds left; not above 0 when it has run out."""
        return self._until - self.now()
