"""The clock: looks at Postgres and at the providers every few seconds, and repairs whatever stopped.

Any number of clocks may run. Each loop is held by one of them at a time, by a lease in Postgres; all of them go on
without Redis. A loop that has not progressed is shown by ``/health`` and ``hodei status``.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import structlog

from hodei.errors import DatabaseUnavailable
from hodei.ports import Platform
from hodei.sagas.engine import new_owner
from hodei.services import cleanup, deadlines, figures, repair, retention, self_hosted, traces, worker_admin
from hodei.services.pipelines import attend
from hodei.services.schedules import tick
from hodei.services.watchdog import Watchdog
from hodei.settings import Settings

log = structlog.get_logger(__name__)

LEASE_S = 10.0
"""A clock that died is replaced after so long, in loops that turn every second and in those that turn every five minutes."""
RENEW_S = 3.0
STOPS_WITHIN_S = 3.0
"""How long all loops together may take to end what they are about."""


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
    Loop(name="deadlines", interval_s=5.0, run=deadlines.start_timeouts),
    Loop(name="watch", interval_s=1.0, run=repair.watch_workers),
    Loop(name="destroy", interval_s=2.0, run=repair.destroy_workers),
    Loop(name="idle", interval_s=5.0, run=worker_admin.end_idle),
    Loop(name="self-hosted", interval_s=5.0, run=self_hosted.note_absent),
    Loop(name="schedules", interval_s=1.0, run=tick.attend_schedules),
    Loop(name="pipelines", interval_s=1.0, run=attend.attend_runs),
    Loop(name="cleanup", interval_s=10.0, run=cleanup.sweep),
    Loop(name="providers", interval_s=15.0, run=repair.check_providers),
    Loop(name="figures", interval_s=2.0, run=figures.fold),
    Loop(name="trim", interval_s=300.0, run=repair.trim),
    Loop(name="logs", interval_s=60.0, run=retention.tidy_logs),
)


TRACES = Loop(name="traces", interval_s=1.0, run=traces.tell_ended)
"""Only where traces are asked for."""


def run(settings: Settings) -> None:
    """Be the clock until SIGTERM."""
    from hodei.bootstrap import open_platform
    from hodei.observability.endpoint import serve_metrics
    from hodei.observability.logs import configure_logging

    configure_logging(settings.log_format, service="beat")
    platform = open_platform(settings, role="beat")
    serve_metrics(settings, platform.meters.registry, service="beat")
    loops = (*LOOPS, TRACES) if platform.tracing.on else LOOPS
    clock = Clock(platform, loops, watchdog=Watchdog(settings.step_limit).start())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: clock.stop())
    log.info("clock.started", loops=[loop.name for loop in loops])
    clock.run()
    platform.close()


class Clock:
    """All loops, each in a thread of its own, so that one that waits for Docker holds up no other."""

    def __init__(
        self, platform: Platform, loops: tuple[Loop, ...] = LOOPS, *, watchdog: Watchdog | None = None
    ) -> None:
        self.platform = platform
        self._watchdog = watchdog
        self.loops = loops
        self.owner = new_owner()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Have :meth:`run` return."""
        self._stopping.set()

    def run(self) -> None:
        """Run until stopped; then give the loops back, so that another clock takes them at once. One that hangs is left."""
        threads = [
            threading.Thread(target=self._repeat, args=(loop,), name=f"clock {loop.name}", daemon=True)
            for loop in self.loops
        ]
        for thread in threads:
            thread.start()
        self._stopping.wait()
        give_up = time.monotonic() + STOPS_WITHIN_S
        for thread in threads:
            thread.join(max(0.0, give_up - time.monotonic()))

    def _repeat(self, loop: Loop) -> None:
        """Turn the loop when it is due on the monotonic clock, and at once when it was another's."""
        due_at: float | None = None
        while not self._stopping.is_set():
            try:
                if not self._claim(loop):
                    due_at = None
                elif due_at is None or time.monotonic() >= due_at:
                    try:
                        self._turn(loop)
                    finally:  # nor is a turn that the database gave up on begun again before its time
                        due_at = time.monotonic() + loop.interval_s
            except DatabaseUnavailable as error:
                log.warning("clock.no_database", loop=loop.name, reason=error.message)
            except Exception:
                log.exception("clock.failed", loop=loop.name)
            self._stopping.wait(min(loop.interval_s, RENEW_S))
        try:
            with self.platform.database.glance() as tx:
                tx.execute("loop_release", name=loop.name, owner=self.owner)
        except DatabaseUnavailable:
            log.debug("clock.not_released", loop=loop.name)

    def _claim(self, loop: Loop) -> bool:
        """Claim the loop, or renew the claim; False while it is another's."""
        with self.platform.database.glance() as tx:
            mine = tx.row(
                "loop_claim", name=loop.name, owner=self.owner, lease_s=LEASE_S, interval_s=loop.interval_s
            )
        return mine is not None

    def _turn(self, loop: Loop) -> None:
        """Do what it does once, and note that it progressed."""
        watched = self._watchdog.watching(loop.name) if self._watchdog else nullcontext()
        with watched, self.platform.meters.turn(loop.name):
            done = loop.run(self.platform)
        if done:
            log.info("clock.did", loop=loop.name, count=done)
        detail: dict[str, Any] = {"last": done}
        with self.platform.database.glance() as tx:
            tx.execute(
                "loop_progress",
                name=loop.name,
                owner=self.owner,
                lease_s=LEASE_S,
                interval_s=loop.interval_s,
                detail=detail,
            )
