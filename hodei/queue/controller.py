"""The controller: a Celery worker that dispatches and runs the steps of sagas, on a few threads."""

from __future__ import annotations

import os
import threading
import time
import warnings

import structlog
from celery import Celery, signals
from kombu import Queue

from hodei.ports import Platform
from hodei.queue.names import QUEUES
from hodei.queue.tasks import register
from hodei.sagas.engine import new_owner
from hodei.services.presence import INTERVAL_S, Presence
from hodei.settings import Settings

log = structlog.get_logger(__name__)

ECHO = "controller.echo"
WELL_FOR_S = 15.0


class Pulse:
    """Whether this controller consumed something lately: its own echo at least.

    A controller that lives but no longer consumes, as after a lost connection that nobody noticed, is not well.
    """

    def __init__(self, app: Celery, owner: str) -> None:
        self.queue = f"hodei.echo.{owner}"
        self._app = app
        self._consumed_at = time.monotonic()
        self._echo_sent_at: float | None = None
        self._sending = threading.Lock()
        signals.task_prerun.connect(self._consumed, weak=False)

        @app.task(name=ECHO)
        def echo() -> None:
            """Nothing to do: that it was consumed is what counts."""

    def _consumed(self, **_: object) -> None:
        self._consumed_at = time.monotonic()
        self._echo_sent_at = None

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
    """Be a controller until SIGTERM; what runs then is finished, within a few seconds. Returns the exit code."""
    from hodei.bootstrap import open_platform
    from hodei.observability.logs import configure_logging

    configure_logging(settings.log_format, service="controller")
    platform = open_platform(settings, role="controller")
    try:
        return serve(platform, settings.controller_threads)
    finally:
        platform.close()


def serve(platform: Platform, threads: int) -> int:
    """Consume until told to stop; 0 then, and Celery's own code when it gave up by itself."""
    app: Celery = platform.courier.app  # type: ignore[attr-defined]
    register(app, platform)
    owner = new_owner()
    pulse = Pulse(app, owner)
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
        worker.start()
        return worker.exitcode or 0
    finally:
        presence.stop()
