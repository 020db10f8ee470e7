"""What is done in the folder of exported logs, which may hang (NFS) or be slow, and holds up nobody for it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

MOST_LEFT = 8
"""So many that nobody waits for any more may go on: a folder that hangs costs a process this many threads and, beyond them, one
for each that waits already."""

Result = TypeVar("Result")


@dataclass(kw_only=True)
class _Work:
    future: Future[Any] = field(default_factory=Future)
    waiting: int = 0


class LogFolder:
    """Runs work in daemon threads, each waited for as long as its caller can; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, _Work] = {}

    def do(
        self,
        name: str,
        work: Callable[[], Result],
        *,
        wait_s: float,
        late: Callable[[Result], object] | None = None,
    ) -> Result:
        """What the work returns, or raises. While one of this name runs it is waited for, and no other is begun.

        Raises TimeoutError when it is not over within ``wait_s``: it goes on, and once it is over and nobody waits for it,
        ``late`` is called with its result, in its thread. Raises TimeoutError at once, with nothing begun, while MOST_LEFT go on
        that nobody waits for.
        """
        with self._lock:
            found = self._running.get(name) or self._begin(name, work, late)
            found.waiting += 1
        try:
            wait([found.future], timeout=wait_s)
        finally:
            with self._lock:
                found.waiting -= 1
                over = found.future.done()
        if not over:
            raise TimeoutError(errno.ETIMEDOUT, f"it takes longer than {wait_s:.3g} s, and goes on")
        result: Result = found.future.result()
        return result

    def _begin(self, name: str, work: Callable[[], Result], late: Callable[[Result], object] | None) -> _Work:
        left = sum(not other.waiting for other in self._running.values())
        if left >= MOST_LEFT:
            raise TimeoutError(errno.ETIMEDOUT, f"{left} others take long already")
        begun = _Work()
        said = copy_context()  # what the log says there is about the same job
        thread = threading.Thread(
            target=said.run,
            args=(self._run, name, begun, work, late),
            name=f"log folder: {name}",
            daemon=True,
        )
        thread.start()  # it needs the lock that is held here before it is over
        self._running[name] = begun
        return begun

    def _run(
        self,
        name: str,
        begun: _Work,
        work: Callable[[], Result],
        late: Callable[[Result], object] | None,
    ) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with self._lock:
            del self._running[name]
            if error is None:
                begun.future.set_result(result)
            else:
                begun.future.set_exception(error)
            alone = not begun.waiting
        try:
            if alone and error is not None:
                raise error
            if alone and late is not None:
                late(result)
        except Exception:
            log.exception("log_folder.failed", work=name)
