"""Two of every process on one database, and the keeper that starts again what was killed."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.platform import RunningPlatform
from support.waiting import until

LOOK_EVERY_S = 0.1
SOON_S, LATE_S = 0.2, 3.0
"""A supervisor needs that long to start a process again."""


@dataclass(frozen=True, kw_only=True)
class SelfEnded:
    """A process that ended though nobody had killed it."""

    name: str
    code: int
    lived_s: float


class Keeper:
    """Starts again what was killed, a random short while later, and what ended by itself, which it remembers."""

    def __init__(self, sets: dict[str, RunningPlatform], rng: random.Random) -> None:
        self.sets = sets
        self.self_ended: list[SelfEnded] = []
        self._rng = rng
        self._lock = threading.RLock()
        self._killed: set[tuple[str, str]] = set()
        self._due: dict[tuple[str, str], float] = {}
        self._resting: set[tuple[str, str]] = set()
        self._started: dict[tuple[str, str], float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> Keeper:
        self._thread.start()
        return self

    def stop(self) -> None:
        """From now on nothing is started again."""
        self._stopping.set()
        self._thread.join(10)

    def pid(self, which: str, process: str) -> int:
        return self.sets[which].processes[process].pid

    def is_up(self, which: str, process: str) -> bool:
        return self.sets[which].processes[process].poll() is None

    def wait_until_all_are_up(self) -> None:
        """Until all that was killed runs again, but for what rests."""

        def up() -> bool:
            with self._lock:
                waiting = [
                    (which, process)
                    for which, platform in self.sets.items()
                    for process in platform.processes
                    if not self.is_up(which, process) and (which, process) not in self._resting
                ]
            return not waiting

        until(up, within_s=30, what="all processes")

    def kill(self, which: str, process: str, *, rest: bool = False) -> bool:
        """SIGKILL; started again soon, or, with ``rest``, when :meth:`wake` is called. False when it was not up."""
        with self._lock:
            if not self.is_up(which, process):
                if rest:
                    self._resting.add((which, process))
                    self._due.pop((which, process), None)
                return False
            self._killed.add((which, process))
            if rest:
                self._resting.add((which, process))
            self.sets[which].kill(process, signal.SIGKILL)
            return True

    def wake(self, which: str, process: str) -> None:
        """Start again what was killed to rest."""
        with self._lock:
            self._resting.discard((which, process))
            self._killed.discard((which, process))
            self._start(which, process)

    def restart(self, which: str, process: str) -> None:
        """As in a rolling restart: SIGTERM, its end, and a new one."""
        with self._lock:
            self._resting.add((which, process))
            self.sets[which].kill(process, signal.SIGTERM)
            self._resting.discard((which, process))
            self._start(which, process)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            with self._lock:
                for which, platform in self.sets.items():
                    for process in list(platform.processes):
                        self._look(which, process)

    def _look(self, which: str, process: str) -> None:
        key = (which, process)
        code = self.sets[which].processes[process].poll()
        if code is None or key in self._resting:
            return
        now = time.monotonic()
        if key not in self._due:
            if key not in self._killed:
                lived_s = now - self._started.get(key, now)
                self.self_ended.append(SelfEnded(name=f"{process} of {which}", code=code, lived_s=lived_s))
            self._killed.discard(key)
            self._due[key] = now + self._rng.uniform(SOON_S, LATE_S)
        elif now >= self._due[key]:
            self._start(which, process)

    def _start(self, which: str, process: str) -> None:
        self._due.pop((which, process), None)
        self._started[(which, process)] = time.monotonic()
        self.sets[which].start(process)


def two_sets(
    shared: Path, database_url: str, redis_url: str, names: Sequence[str], **settings: str
) -> dict[str, RunningPlatform]:
    """Sets "a" and "b", not started: the same database, broker, data, secret and logs, and ports of their own."""
    made = {}
    for which in ("a", "b"):
        home = shared / which
        home.mkdir()
        places = {"data_dir": str(shared / "data"), "log_dir": str(shared / "logs")}
        made[which] = RunningPlatform(home, database_url, redis_url, names=names, **places, **settings)
    return made
