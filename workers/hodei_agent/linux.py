"""The few Linux calls that the standard library does not wrap: prctl(2), and the process's own environment."""

from __future__ import annotations

import os
from typing import Any, Iterable

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_CAP_SYS_PTRACE = 19
_ENV_START = 50 - 3
"""Of proc(5)'s numbering of /proc/<pid>/stat, among the fields after the program's name."""

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

    True when it is so. It cannot help against root's capabilities on a bare machine (the process provider run
    as root): :func:`forbid_prying` and :func:`wipe_environment` do. It holds from this call on: a process of
    the same user that looks in the milliseconds before can read the one-time token, so the platform takes that
    token only once.
    """
    return _prctl(_PR_SET_DUMPABLE, 0)


def wipe_environment(secrets: Iterable[str]) -> None:
    """Overwrite these texts where the kernel keeps this process's environment as it was at exec.

    Kernels from 6.13 on show `/proc/<pid>/environ` to whoever has CAP_SYS_ADMIN, undumpable or not.
    """
    try:
        import ctypes

        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[_ENV_START]), int(fields[_ENV_START + 1])
        area = ctypes.string_at(start, end - start)
        for secret in filter(None, map(os.fsencode, secrets)):
            at = area.find(secret)
            while at >= 0:
                ctypes.memset(start + at, ord("x"), len(secret))
                at = area.find(secret, at + len(secret))
    except (ImportError, OSError, IndexError, ValueError):
        pass


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


def forbid_prying() -> None:
    """Called in a new child before exec: whatever it executes reads no memory and environment of processes with
    more rights, also when all of them are root."""
    _prctl(_PR_CAPBSET_DROP, _CAP_SYS_PTRACE)


def die_with_parent(parent_pid: int, death_signal: int) -> None:
    """Called in a new child before exec: it gets `death_signal` when the thread that made it ends."""
    _prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent_pid:
        os._exit(1)
