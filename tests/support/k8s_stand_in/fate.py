"""What may happen to a pod while its run waits for something: it is changed, deleted, evicted, or grows too old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.k8s_stand_in.store import Object

LEAST_GRACE_S = 2.0
"""The kubelet gives every container so long between TERM and KILL, whatever it was told."""

_DEADLINE = "Pod was active on the node longer than the specified deadline"
_NO_DEADLINE_S = 3600.0


class End(Exception):
    """The pod is to end now. ``reason`` empty: it was deleted, or the node is switched off."""

    def __init__(self, reason: str = "", message: str = "", grace_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message
        self.grace_s = grace_s


class Fate:
    """Shared by the pod's run, which waits here, and by everybody who has news of it. ``pod`` is the object as last seen."""

    def __init__(self, pod: Object) -> None:
        self.pod = pod
        self.gone = False
        self.stopping = False
        self._evicted: End | None = None
        self._readers = 0
        self._version = 0
        self._changed = threading.Condition()
        self._began = time.monotonic()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Whatever changes of the pod changes in here: who waits looks again."""
        with self._changed:
            yield
            self._version += 1
            self._changed.notify_all()

    def see(self, pod: Object) -> None:
        with self.changing():
            self.pod = pod

    def removed(self) -> None:
        with self.changing():
            self.gone = True

    def evict(self, message: str) -> None:
        with self.changing():
            self._evicted = End("Evicted", message)

    def stop(self) -> None:
        """The node is switched off."""
        with self.changing():
            self.stopping = True

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Meanwhile a container that has ended is kept, so that its log can be read to its end."""
        with self.changing():
            self._readers += 1
        try:
            yield
        finally:
            with self.changing():
                self._readers -= 1

    @property
    def deleted(self) -> bool:
        return self.gone or bool(self.pod["metadata"].get("deletionTimestamp"))

    def grace_s(self, end: End | None) -> float:
        """Between TERM and KILL. A deletion may be made shorter while it is under way."""
        meta = self.pod["metadata"]
        asked: float = end.grace_s if end is not None else 0.0
        if not self.gone and meta.get("deletionTimestamp"):
            asked = meta["deletionGracePeriodSeconds"]
        return max(LEAST_GRACE_S, asked)

    def until(
        self, fact: Callable[[], bool], report: Callable[[], None], *, within_s: float | None = None
    ) -> bool:
        """Wait for a fact, reporting after every change; False when time is up. Raises End."""
        deadline = None if within_s is None else time.monotonic() + within_s
        seen = -1
        while True:
            with self._changed:
                self._check()
                found = fact()
                late = deadline is not None and time.monotonic() >= deadline
                if not found and not late and seen == self._version:
                    left_s = self._deadline_left_s()
                    self._changed.wait(
                        left_s if deadline is None else min(left_s, deadline - time.monotonic())
                    )
                    continue
                seen = self._version
            report()
            if found or late:
                return found

    def wait(self, fact: Callable[[], bool], *, within_s: Callable[[], float] | None = None) -> bool:
        """Wait for a fact, whatever happens to the pod; ``within_s`` is asked again after every change."""
        began = time.monotonic()
        with self._changed:
            while not fact():
                left_s = None if within_s is None else began + within_s() - time.monotonic()
                if self.stopping or (left_s is not None and left_s <= 0):
                    return False
                self._changed.wait(left_s)
        return True

    def log_is_read(self, within_s: float) -> None:
        """Wait until nobody reads the pod's log any more, for a while at most."""
        self.wait(lambda: not self._readers, within_s=lambda: within_s)

    def _check(self) -> None:
        if self.stopping or self.deleted:
            raise End
        if self._evicted is not None:
            raise self._evicted
        if self._deadline_left_s() <= 0:
            raise End("DeadlineExceeded", _DEADLINE, self.pod["spec"]["terminationGracePeriodSeconds"])

    def _deadline_left_s(self) -> float:
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        return _NO_DEADLINE_S if limit is None else self._began + limit - time.monotonic()
