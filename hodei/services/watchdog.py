"""Ends a process in which something overruns, because a thread cannot be ended.

What overruns holds its lease for as long as its process lives. The process starts itself anew in its place, so its lease runs
out, another takes over, and whoever supervises it (`honcho`, a container's restart policy, systemd) sees nothing stop.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0


@dataclass(kw_only=True)
class _Work:
    name: str
    thread_id: int
    took_s: float = 0.0


def start_anew() -> None:
    """Replace this process by a fresh one of the same command, id and environment. Does not return.

    Nothing is said to anybody: to the others it is a crash. Files and sockets are closed by the kernel (PEP 446). The environment
    is handed on from Python's copy: what the kernel shows of it was wiped (`hodei_agent.linux.wipe_environment`).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(os.environ))


class Watchdog:
    """Calls ``overrun`` once something takes longer than ``limit_s``.

    Measures its own ticks: time in which the whole process was stopped, or the machine asleep, is nobody's overrun.
    """

    def __init__(self, limit_s: float, *, overrun: Callable[[], None] = start_anew) -> None:
        self._limit_s = limit_s
        self._overrun = overrun
        self._lock = threading.Lock()
        self._work: dict[object, _Work] = {}
        self._stopping = threading.Event()

    def start(self) -> Watchdog:
        """Look every second from now on."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()
        return self

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def begin(self, key: object, name: str) -> None:
        """The calling thread begins with this."""
        with self._lock:
            self._work[key] = _Work(name=name, thread_id=threading.get_ident())

    def end(self, key: object) -> None:
        """It is over. Unknown keys are ignored."""
        with self._lock:
            self._work.pop(key, None)

    @contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """What happens in the block may take no longer than the limit."""
        key = object()
        self.begin(key, name)
        try:
            yield
        finally:
            self.end(key)

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._stopping.wait(LOOK_EVERY_S):
            now = time.monotonic()
            self.tick(min(now - looked, 2 * LOOK_EVERY_S))
            looked = now

    def tick(self, passed_s: float) -> None:
        """So much time has passed since the last look."""
        with self._lock:
            for work in self._work.values():
                work.took_s += passed_s
            late = [work for work in self._work.values() if work.took_s > self._limit_s]
        for work in late:
            log.critical(
                "watchdog.overrun", name=work.name, took_s=round(work.took_s), at=_where(work.thread_id)
            )
        if late:
            self._overrun()


def _where(thread_id: int) -> list[str]:
    """What the thread is doing, the innermost call first."""
    frame = sys._current_frames().get(thread_id)
    calls = traceback.extract_stack(frame) if frame is not None else []
    return [f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in reversed(calls)][:12]
