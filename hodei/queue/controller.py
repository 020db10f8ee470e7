"""The controller: a Celery worker that dispatches and runs the steps of sagas, on a few threads."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from celery import Celery, Task, signals
from kombu import Queue

from hodei.observability.meters import Meters
from hodei.ports import Platform
from hodei.queue.ages import SENT_AT, since
from hodei.queue.names import QUEUES
from hodei.queue.tasks import register
from hodei.sagas.engine import new_owner
from hodei.services.presence import INTERVAL_S, Presence
from hodei.services.watchdog import Watchdog
from hodei.settings import Settings

log = structlog.get_logger(__name__)

ECHO = "controller.echo"
WELL_FOR_S = 15.0
STOPS_WITHIN_S = 8.0
"""How long what runs may take after SIGTERM: `docker stop`, and others, kill after 10 s."""


class Pulse:
    """Whether this controller consumed something lately: its own echo at least.

    A controller that lives but no longer consumes, as after a lost connection that nobody noticed, is not well.
    """

    def __init__(self, app: Celery, owner: str) -> None:
        self.queue = f"hodei.echo.{owner}"
        self._app = app
        self._consumed_at = time.monotonic()
        self._sending = threading.Lock()
        signals.task_prerun.connect(self._consumed, weak=False)

        @app.task(name=ECHO)
        def echo() -> None:
            """Nothing to do: that it was consumed is what counts."""

    def _consumed(self, **_: object) -> None:
        self._consumed_at = time.monotonic()

    def well(self) -> bool:
        """Asked every few seconds; sends an echo when nothing else was consumed."""
        silent_s = time.monotonic() - self._consumed_at
        if silent_s > INTERVAL_S / 2:
            threading.Thread(target=self._send_echo, name="echo", daemon=True).start()
        return silent_s < WELL_FOR_S

    def _send_echo(self) -> None:
        if not self._sending.acquire(blocking=False):
            return
        try:
            self._app.send_task(ECHO, queue=self.queue, retry=False, expires=60)
        except Exception as error:
            log.debug("echo.not_sent", reason=str(error))
        finally:
            self._sending.release()


def run(settings: Settings) -> int:
    """Be a controller until SIGTERM; what runs then is finished, or left to another one after a few seconds. Returns the exit
    code."""
    from hodei.bootstrap import open_platform
    from hodei.observability.endpoint import serve_metrics
    from hodei.observability.logs import configure_logging

    configure_logging(settings.log_format, service="controller")
    platform = open_platform(settings, role="controller")
    try:
        serve_metrics(settings, platform.meters.registry, service="controller")
        return serve(platform, settings.controller_threads, watchdog=Watchdog(settings.step_limit).start())
    finally:
        platform.close()


def _watch_tasks(watchdog: Watchdog) -> None:
    """The threads pool can end no task that hangs (Celery's time limits need processes)."""

    @signals.task_prerun.connect(weak=False)
    def _begin(task_id: str, task: Task, **_: object) -> None:
        watchdog.begin(task_id, task.name)

    @signals.task_postrun.connect(weak=False)
    def _end(task_id: str, **_: object) -> None:
        watchdog.end(task_id)


def _measure_tasks(meters: Meters) -> None:
    """Count the tasks, how long each took, and for how long it had waited in its queue. Echoes are nobody's concern."""
    begun: dict[str, float] = {}

    @signals.task_prerun.connect(weak=False)
    def _begin(task_id: str, **_: object) -> None:
        begun[task_id] = time.perf_counter()

    @signals.task_postrun.connect(weak=False)
    def _end(task_id: str, task: Task, state: str | None = None, **_: object) -> None:
        seconds = time.perf_counter() - begun.pop(task_id, time.perf_counter())
        if task.name == ECHO:
            return
        queue = (task.request.delivery_info or {}).get("routing_key") or "none"
        waited_s = since(getattr(task.request, SENT_AT, None))
        meters.task(
            task.name,
            queue,
            "ok" if state == "SUCCESS" else "error",
            seconds=seconds,
            waited_s=None if waited_s is None else max(0.0, waited_s - seconds),
        )


@contextmanager
def _stopping_in_time(platform: Platform) -> Iterator[None]:
    """Once told to stop, the block has STOPS_WITHIN_S to end; then the process does, as by a crash.

    The threads pool can end no task. Nobody is told goodbye: the step's lease runs out, what else was taken counts as lost with
    its controller, and another one goes on with both.
    """
    asked, over = threading.Event(), threading.Event()

    def end() -> None:
        asked.wait()
        if not over.wait(STOPS_WITHIN_S):
            log.warning("controller: stopped in the middle of a step", after_s=STOPS_WITHIN_S)
            platform.courier.close()
            sys.stdout.flush()
            os._exit(0)

    def ask(**_: object) -> None:
        asked.set()

    signals.worker_shutting_down.connect(ask, weak=False)
    threading.Thread(target=end, name="stopping", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _leave_logging(**_: object) -> None:
    """Logging is set up already: with nobody here Celery sets its own level for all of it, and what happens is not said."""


def serve(platform: Platform, threads: int, *, watchdog: Watchdog | None = None) -> int:
    """Consume until told to stop; 0 then, and Celery's own code when it gave up by itself."""
    if watchdog is not None:
        _watch_tasks(watchdog)
    _measure_tasks(platform.meters)
    app: Celery = platform.courier.app  # type: ignore[attr-defined]
    register(app, platform)
    owner = new_owner()
    pulse = Pulse(app, owner)
    signals.setup_logging.connect(_leave_logging, weak=False)
    presence = Presence(platform.database, "controller", owner, well=pulse.well).start()
    queues = [Queue(name, exchange=None, routing_key=name) for name in (*QUEUES, pulse.queue)]
    app.conf.task_queues = queues
    log.info("controller: started", threads=threads, queues=list(QUEUES))
    warnings.filterwarnings("ignore", message=r"(?s).*superuser privileges")  # JSON alone is accepted
    worker = app.Worker(
        pool="threads",
        concurrency=threads,
        hostname=f"controller-{os.getpid()}@{os.uname().nodename}",
        queues=[queue.name for queue in queues],
        without_mingle=True,
        without_gossip=True,
        loglevel="WARNING",
        quiet=True,
    )
    try:
        with _stopping_in_time(platform):
            worker.start()
        return worker.exitcode or 0
    finally:
        presence.stop()
