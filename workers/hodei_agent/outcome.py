"""How an execution ended, in the protocol's words."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple


class Outcome(NamedTuple):
    """The part of the result that says how it ended. `message` is one sentence for a person."""

    name: str
    exit_code: int | None = None
    signal: int | None = None
    error_code: str | None = None
    message: str | None = None


def not_started(code: str, message: str) -> Outcome:
    """The job's first process was never there."""
    exit_code = {"ERR_1001": 127, "ERR_1002": 126}.get(code)
    return Outcome("not_started", exit_code, None, code, message)


def stopped(reason: str, status: int | None, limit_s: float | None = None) -> Outcome:
    """The agent ended it, for that reason. `status`: the wait status of its first process, if any."""
    exit_code, number = decode(status) if status is not None else (None, None)
    if reason == "timeout":
        limit = f" of {limit_s:g} s" if limit_s is not None else ""
        return Outcome(reason, exit_code, number, "ERR_1005", f"The job ran longer than its time-out{limit}.")
    if reason == "idle_timeout":
        return Outcome(
            reason,
            exit_code,
            number,
            "ERR_1015",
            f"The job wrote nothing for {limit_s or 0:g} s, its idle time-out.",
        )
    if reason == "worker_stopped":
        return Outcome(
            reason, exit_code, number, "ERR_1008", "The worker was told to stop while the job was running."
        )
    return Outcome(reason, exit_code, number)


def ended(status: int, *, oom_killed: bool) -> Outcome:
    """It ended without the agent's doing. `oom_killed`: the kernel's killer was at work here meanwhile."""
    exit_code, number = decode(status)
    if oom_killed and exit_code == 128 + signal.SIGKILL:
        return Outcome(
            "out_of_memory",
            exit_code,
            number,
            "ERR_1013",
            "The kernel killed the job because it used more memory than its limit; give it more memory.",
        )
    if number is not None:
        return Outcome(
            "signalled",
            exit_code,
            number,
            "ERR_1006",
            f"The command was ended by signal {number}{_name(number)}.",
        )
    if exit_code == 0:
        return Outcome("exited", 0)
    if exit_code == 127:
        return Outcome(
            "exited", 127, None, "ERR_1001", "A command was not found (exit code 127): see the log."
        )
    if exit_code == 126:
        message = "A command may not be executed (exit code 126): see the log."
        return Outcome("exited", 126, None, "ERR_1002", message)
    return Outcome("exited", exit_code, None, "ERR_1007", f"The command ended with exit code {exit_code}.")


def decode(status: int) -> tuple[int, int | None]:
    """A wait status as exit code (128 + the signal's number, as shells say it) and signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return 128 + number, number
    return os.WEXITSTATUS(status), None


def _name(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""
