"""The few Linux calls that the standard library does not wrap: prctl(2)."""

from __future__ import annotations

import os
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""The kernel's fixed number (PROC_PID_INIT_INO) for the machine's own."""

_libc: Any = None


def _prctl(option: int, value: int) -> bool:
    global _libc
    if _libc is None:
        try:
            import ctypes

            _libc = ctypes.CDLL(None)
        except (ImportError, OSError):
            return False
    try:
        return bool(_libc.prctl(option, value, 0, 0, 0) == 0)
    except AttributeError:
        return False


def make_undumpable() -> bool:
    """Keep every process of the same user from reading this one's memory and `/proc/<pid>/environ`.

    True when it is so. It cannot help against a job with CAP_SYS_PTRACE, which root has on a bare machine
    (the process provider run as root): such a job can read anything, this process included. In a container
    whose capabilities are dropped it holds for root, too. It holds from this call on: a process of the same
    user that looks in the milliseconds before can read the one-time token, so the platform takes that token
    only once.
    """
    return _prctl(_PR_SET_DUMPABLE, 0)


def become_subreaper() -> bool:
    """Adopt the orphans among this process's descendants, as PID 1 would. True when it is so."""
    return os.getpid() == 1 or _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def dies_with_container() -> bool:
    """Whether the end of this process ends every other one here: PID 1, or the ward of a container's init."""
    if os.getpid() == 1:
        return True
    try:
        return os.getppid() == 1 and os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE
    except OSError:
        return False


def die_with_parent(parent_pid: int, death_signal: int) -> None:
    """Called in a new child before exec: it gets `death_signal` when the thread that made it ends."""
    _prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent_pid:
        os._exit(1)
