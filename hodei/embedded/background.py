"""``hodei dev --detach`` and ``hodei stop``: the same platform without a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hodei.embedded import state_file, whole
from hodei.embedded.children import end, end_stranger
from hodei.embedded.state_file import State
from hodei.errors import HodeiError

READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 30.0
LOOK_AGAIN_S = 0.05
LAST_WORDS_BYTES = 2000


class NotStarted(HodeiError):
    """The platform did not start."""

    code = "not_started"
    exit_code = 1


def log_file() -> Path:
    """Where what it says goes: beside the note of where it is."""
    return state_file.path().with_name("dev.log")


def start(say: Callable[[str], None]) -> int:
    """Start ``hodei dev`` in the background, and return 0 once a job can be run. Raises NotStarted with its last words."""
    running = state_file.read()
    if running:
        say(f"hodei dev runs already: {running.url} (process {running.pid})")
        return 0
    log = log_file()
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "hodei.cli.main", "dev"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    ready = False
    try:
        state = _noted(child, log)
        ready = whole.wait_until_ready(
            state.url, timeout_s=READY_WITHIN_S, stopped=lambda: child.poll() is not None
        )
        if not ready:
            raise NotStarted(_last_words(log))
    finally:
        if not ready:
            end(child, [(signal.SIGTERM, STOPPED_WITHIN_S)])
    say(f"Ready: {state.url} (process {state.pid}). What it says goes to {log}. It is ended by: hodei stop")
    return 0


def stop(say: Callable[[str], None]) -> int:
    """End this user's ``hodei dev`` with all that it started, and return 0 once it is gone."""
    running = state_file.read()
    if running is None:
        say("No hodei dev of yours runs here.")
        return 0
    end_stranger(running.pid, [(signal.SIGTERM, STOPPED_WITHIN_S)])
    say(f"Stopped: {running.url}")
    return 0


def _noted(child: subprocess.Popen[bytes], log: Path) -> State:
    deadline = time.monotonic() + READY_WITHIN_S
    while child.poll() is None and time.monotonic() < deadline:
        found = state_file.read()
        if found and found.pid == child.pid:
            return found
        time.sleep(LOOK_AGAIN_S)
    raise NotStarted(_last_words(log))


def _last_words(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_WORDS_BYTES))
        words = file.read().decode(errors="replace").strip().removeprefix("Error: ")
    return words or f"It said nothing within {READY_WITHIN_S:g} s."
