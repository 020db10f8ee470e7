"""`hodei embedded`: the servers as a process of the Procfile, which the others wait for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from hodei.embedded.services import EmbeddedServices

LOOK_AGAIN_S = 0.5
LINGER_S = 2.0  # honcho ends all processes at once, and kills after 5 s: the others leave the database first


def run_embedded(
    data_dir: Path | None = None,
    *,
    database_url: str | None = None,
    redis_url: str | None = None,
    say: Callable[[str], None],
) -> int:
    """Runs what is not configured until SIGTERM or SIGINT, and starts again what dies. Returns the exit code.

    With both URLs configured it only says so and waits, so that a Procfile needs no condition. `say` gets a
    line per fact. Raises an EmbeddedError when the servers do not start.
    """
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if database_url and redis_url:
            say("Postgres and Redis are configured: nothing to run here.")
            stop.wait()
        else:
            _run_missing(data_dir, stop, say, postgres=not database_url, redis=not redis_url)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _run_missing(
    data_dir: Path | None, stop: threading.Event, say: Callable[[str], None], *, postgres: bool, redis: bool
) -> None:
    services = EmbeddedServices.start(data_dir, postgres=postgres, redis=redis)
    try:
        running = " and ".join(name.capitalize() for name in services.pids)
        say(f"{running} ready; data in {services.data_dir}")
        while not stop.wait(LOOK_AGAIN_S):
            for name in services.revive():
                say(f"{name} had died and was started again")
    finally:
        services.stop(linger_s=LINGER_S)
    say(f"{running} stopped")
