"""The clock: looks at Postgres and at the providers every few seconds, and repairs whatever stopped.

Any number of clocks may run. Each loop is held by one of them at a time, by a lease in Postgres; all of them go on
without Redis. A loop that has not progressed is shown by ``/health`` and ``hodei status``.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from hodei.errors import DatabaseUnavailable
from hodei.ports import Platform
from hodei.sagas.engine import new_owner
from hodei.services import repair
from hodei.settings import Settings

log = structlog.get_logger(__name__)

LEASE_FACTOR = 3
SHORTEST_LEASE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Something that is done every ``interval_s``; ``run`` answers how much it did."""

    name: str
    interval_s: float
    run: Callable[[Platform], int]


LOOPS = (
    Loop(name="outbox", interval_s=1.0, run=repair.relay_outbox),
    Loop(name="broker", interval_s=2.0, run=repair.notice_lost_messages),
    Loop(name="sagas", interval_s=2.0, run=repair.nudge_sagas),
    Loop(name="dispatch", interval_s=2.0, run=repair.dispatch),
    Loop(name="queue", interval_s=5.0, run=repair.end_overdue_jobs),
    Loop(name="watch", interval_s=1.0, run=repair.watch_workers),
    Loop(name="destroy", interval_s=2.0, run=repair.destroy_workers),
    Loop(name="orphans", interval_s=20.0, run=repair.remove_orphans),
    Loop(name="providers", interval_s=15.0, run=repair.check_providers),
    Loop(name="trim", interval_s=300.0, run=repair.trim),
)


def run(settings: Settings) -> None:
    """Be the clock until SIGTERM."""
    from hodei.bootstrap import open_platform
    from hodei.observability.logs import configure_logging

    configure_logging(settings.log_format, service="beat")
    platform = open_platform(settings, role="beat")
    clock = Clock(platform)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: clock.stop())
    log.info("clock.started", loops=[loop.name for loop in LOOPS])
    clock.run()
    platform.close()


class Clock:
    """All loops, each in a thread of its own, so that one that waits for Docker holds up no other."""

    def __init__(self, platform: Platform, loops: tuple[Loop, ...] = LOOPS) -> None:
        self.platform = platform
        self.loops = loops
        self.owner = new_owner()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Have :meth:`run` return."""
        self._stopping.set()

    def run(self) -> None:
        """Run until stopped; then give the loops back, so that another clock takes them at once."""
        threads = [
            threading.Thread(target=self._repeat, args=(loop,), name=f"clock {loop.name}", daemon=True)
            for loop in self.loops
        ]
        for thread in threads:
            thread.start()
        self._stopping.wait()
        for thread in threads:
            thread.join(3)

    def _repeat(self, loop: Loop) -> None:
        lease_s = max(SHORTEST_LEASE_S, loop.interval_s * LEASE_FACTOR)
        while not self._stopping.is_set():
            try:
                self._tick(loop, lease_s)
            except DatabaseUnavailable as error:
                log.warning("clock.no_database", loop=loop.name, reason=error.message)
            except Exception:
                log.exception("clock.failed", loop=loop.name)
            self._stopping.wait(loop.interval_s)
        try:
            with self.platform.database.glance() as tx:
                tx.execute("loop_release", name=loop.name, owner=self.owner)
        except DatabaseUnavailable:
            log.debug("clock.not_released", loop=loop.name)

    def _tick(self, loop: Loop, lease_s: float) -> None:
        with self.platform.database.glance() as tx:
            mine = tx.row(
                "loop_claim", name=loop.name, owner=self.owner, lease_s=lease_s, interval_s=loop.interval_s
            )
        if mine is None:
            return
        done = loop.run(self.platform)
        if done:
            log.info("clock.did", loop=loop.name, count=done)
        detail: dict[str, Any] = {"last": done}
        with self.platform.database.glance() as tx:
            tx.execute(
                "loop_progress",
                name=loop.name,
                owner=self.owner,
                lease_s=lease_s,
                interval_s=loop.interval_s,
                detail=detail,
            )
