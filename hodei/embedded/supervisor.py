"""Runs the platform's processes in one terminal, for `hodei dev` and `hodei demo`.

    with EmbeddedServices.start() as services:
        code = Supervisor(processes, tick=services.revive).run()

Each child leads a process group of its own, gets SIGKILL when this process dies in whatever way (Linux), and
none is left when `run` returns.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TextIO

from hodei.embedded.children import launch
from hodei.embedded.prefixed import LineBuffer, PrefixedOutput

GRACE_S = 4.0  # from SIGTERM to SIGKILL: all is over within 5 s
LOOK_AGAIN_S = 0.25
FIRST_BACK_OFF_S = 0.5
LONGEST_BACK_OFF_S = 30.0
STEADY_AFTER_S = 60.0  # one that lived so long starts again without back-off
LAST_WORDS_S = 0.5  # for output still in the pipe of one that ended
OWN_NAME = "hodei"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class Process:
    """What to run. `env` is its whole environment. With `restart` it is started again whenever it ends;
    without, its end ends everything with its exit code."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    restart: bool = True


class _Child:
    """A process and its present incarnation."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.popen: subprocess.Popen[bytes] | None = None
        self.lines = LineBuffer()
        self.started = 0.0
        self.start_at = 0.0
        self.back_off_s = FIRST_BACK_OFF_S

    def signal(self, number: signal.Signals) -> None:
        """To the whole group: what a child started ends with it."""
        if self.popen:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, number)


class Supervisor:
    """Starts the processes in order and watches them until told to stop. Use it once, from the main thread.

    `tick` is called a few times a second; it returns the names of what it started again, which are said.
    `grace_s` is the time between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        processes: Iterable[Process],
        *,
        output: TextIO | None = None,
        grace_s: float = GRACE_S,
        tick: Callable[[], list[str]] | None = None,
    ) -> None:
        self._children = [_Child(process) for process in processes]
        self._output = PrefixedOutput(
            output or sys.stdout, [OWN_NAME, *(c.process.name for c in self._children)]
        )
        self._grace_s = grace_s
        self._tick = tick
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._exit_code: int | None = None
        self._hurry = False

    def run(self) -> int:
        """Returns when all processes are gone: 0 after Ctrl-C or SIGTERM, the code given to `request_stop`,
        or that of the process without `restart` that ended. A second Ctrl-C skips the grace."""
        before = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        try:
            while self._exit_code is None:
                self._start_due()
                self._listen(LOOK_AGAIN_S)
                self._notice_ends()
                self._call_tick()
                if self._output.closed:
                    self.request_stop()
            return self._exit_code
        finally:
            self._stop_all()
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def request_stop(self, exit_code: int = 0) -> None:
        """Makes `run` stop everything and return; from any thread. The first code counts."""
        if self._exit_code is None:
            self._exit_code = exit_code
        with contextlib.suppress(OSError):  # full: it wakes up anyway; closed: it is over
            os.write(self._wake_write, b"!")

    def say(self, text: str) -> None:
        """A line under the supervisor's own name."""
        self._output.line(OWN_NAME, text)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._hurry = self._exit_code is not None
        self.request_stop()

    def _start_due(self) -> None:
        for child in self._children:
            if child.popen is None and time.monotonic() >= child.start_at and self._exit_code is None:
                self._start(child)

    def _start(self, child: _Child) -> None:
        env = {"PYTHONUNBUFFERED": "1", **child.process.env}
        child.popen = launch(child.process.argv, env=env, death_signal=signal.SIGKILL, output=subprocess.PIPE)
        child.lines = LineBuffer()
        child.started = time.monotonic()
        assert child.popen.stdout
        os.set_blocking(child.popen.stdout.fileno(), False)
        self._selector.register(child.popen.stdout, selectors.EVENT_READ, child)

    def _listen(self, timeout_s: float) -> bool:
        """Passes on what was written meanwhile; whether there was anything."""
        ready = self._selector.select(timeout_s)
        for key, _ in ready:
            if key.data is None:
                os.read(self._wake_read, 512)
            else:
                self._pass_on(key.data)
        return bool(ready)

    def _pass_on(self, child: _Child) -> None:
        assert child.popen and child.popen.stdout
        try:
            piece = os.read(child.popen.stdout.fileno(), 65536)
        except BlockingIOError:
            return
        for line in child.lines.feed(piece):
            self._output.line(child.process.name, line)
        if not piece:
            self._selector.unregister(child.popen.stdout)
            child.popen.stdout.close()

    def _drain(self, child: _Child) -> None:
        """What one that ended wrote last. Its group is gone, but others may hold the pipe: not for long."""
        assert child.popen and child.popen.stdout
        deadline = time.monotonic() + LAST_WORDS_S
        while not child.popen.stdout.closed and time.monotonic() < deadline:
            self._listen(0.05)
        if not child.popen.stdout.closed:
            self._selector.unregister(child.popen.stdout)
            child.popen.stdout.close()

    def _notice_ends(self) -> None:
        for child in self._children:
            if child.popen is None or child.popen.poll() is None:
                continue
            child.signal(signal.SIGKILL)  # the rest of its group
            self._drain(child)
            code = child.popen.returncode
            child.popen = None
            if self._exit_code is not None:
                return
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            if not child.process.restart:
                self.say(f"*** {child.process.name} {how}: stopping everything ***")
                self.request_stop(128 - code if code < 0 else code)
                return
            self._schedule(child)
            wait_s = max(0.0, child.start_at - time.monotonic())
            self.say(f"*** {child.process.name} {how}: starting it again in {wait_s:.1f} s ***")

    def _schedule(self, child: _Child) -> None:
        if time.monotonic() - child.started >= STEADY_AFTER_S:
            child.back_off_s = FIRST_BACK_OFF_S
        child.start_at = time.monotonic() + child.back_off_s
        child.back_off_s = min(child.back_off_s * 2, LONGEST_BACK_OFF_S)

    def _call_tick(self) -> None:
        for name in self._tick() if self._tick and self._exit_code is None else []:
            self.say(f"*** {name} had died and was started again ***")

    def _stop_all(self) -> None:
        """SIGTERM to all, the last started first; then SIGKILL to what is left, in a hurry at once."""
        living = [child for child in reversed(self._children) if child.popen]
        for child in living:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while any(c.popen and c.popen.poll() is None for c in living):
            if self._hurry or time.monotonic() > deadline:
                break
            self._listen(0.05)
        for child in living:
            child.signal(signal.SIGKILL)
            if child.popen:
                child.popen.wait()
                self._drain(child)
                child.popen = None
