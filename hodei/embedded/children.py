"""Starts and ends child processes that do not outlive this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from hodei.embedded import exec_child
from hodei.embedded.account import Account
from hodei.embedded.process_identity import started_at

POLL_S = 0.01


def launch(
    program: Sequence[str],
    *,
    env: Mapping[str, str],
    death_signal: signal.Signals,
    account: Account | None = None,
    cwd: Path | None = None,
    output: int | IO[Any] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, so that Ctrl-C in the terminal reaches only us.

    It gets `death_signal` when this process dies, however it dies (Linux). The kernel ties that to the
    starting thread: from any other than the main thread nothing is tied; a later start ends what was left.
    """
    tied = death_signal if threading.current_thread() is threading.main_thread() else 0
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    wrapper = [sys.executable, "-I", "-S", exec_child.__file__, *map(str, (os.getpid(), int(tied), uid, gid))]
    return subprocess.Popen(
        [*wrapper, *program],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
    )


def end(child: subprocess.Popen[bytes], steps: Iterable[tuple[signal.Signals, float]]) -> None:
    """Sends each signal and waits its seconds for the end; SIGKILL follows the last step."""
    for number, patience_s in steps:
        if child.poll() is not None:
            return
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience_s)
            return
    child.kill()
    child.wait()


def end_stranger(pid: int, steps: Iterable[tuple[signal.Signals, float]]) -> None:
    """The same for a process that is not our child: one that a killed owner left behind."""
    identity = started_at(pid)
    for number, patience_s in (*steps, (signal.SIGKILL, 5.0)):
        if identity is None or started_at(pid) != identity:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while started_at(pid) == identity and time.monotonic() < deadline:
            time.sleep(POLL_S)
