"""How the other threads, and signals, reach the main thread while it waits in poll()."""

from __future__ import annotations

import os
from collections import deque
from contextlib import contextmanager
from typing import Any, Iterator

from hodei_agent.errors import LeaseLost, Unauthorized


class Mailbox:
    """A queue with a pipe: what is posted makes `wake_fd` readable. Posting never waits."""

    def __init__(self) -> None:
        self.wake_fd, self.signal_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self.signal_fd, False)
        self._events: deque[tuple[str, Any]] = deque()

    def post(self, kind: str, subject: Any = None) -> None:
        """Leave an event for the main thread."""
        self._events.append((kind, subject))
        try:
            os.write(self.signal_fd, b"\0")
        except BlockingIOError:  # The pipe is full of wake-ups: one more is not needed.
            pass

    @contextmanager
    def told_of_the_end(self, subject: Any = None) -> Iterator[None]:
        """Post what ends a thread that talks to the platform: no line may break without the main thread's knowing."""
        try:
            yield
        except Unauthorized:
            self.post("unauthorized", subject)
        except LeaseLost:
            self.post("lease_lost", subject)
        except BaseException:
            self.post("lease_lost", subject)
            raise

    def collect(self) -> tuple[set[int], list[tuple[str, Any]]]:
        """The numbers of the signals that came, and the events, oldest first."""
        signals: set[int] = set()
        try:
            signals.update(os.read(self.wake_fd, 4096))
        except BlockingIOError:
            pass
        signals.discard(0)
        events = []
        while self._events:
            events.append(self._events.popleft())
        return signals, events
