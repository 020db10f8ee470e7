"""The few Linux calls that the standard library does not wrap, and the process's own first environment."""

from __future__ import annotations

import errno
import os
from typing import Any, Iterable, Sequence

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_CAPABILITY_VERSION_3 = 0x20080522

CAP_DAC_READ_SEARCH = 2
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SYS_MODULE = 16
CAP_SYS_RAWIO = 17
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
CAP_MKNOD = 27
CAP_PERFMON = 38
CAP_BPF = 39
CAP_CHECKPOINT_RESTORE = 40

WAYS_AROUND = (
    CAP_SYS_ADMIN,  # mounts, other namespaces
    CAP_SETUID,  # another user, through whose processes' /proc/<pid>/root everything shows
    CAP_SETGID,
    CAP_DAC_READ_SEARCH,  # files by handle
    CAP_PERFMON,  # others' first environments
    CAP_CHECKPOINT_RESTORE,  # files that other processes have mapped
    CAP_MKNOD,  # the disk, as a device of one's own
    CAP_SYS_RAWIO,
    CAP_SYS_MODULE,  # the kernel itself
    CAP_BPF,
)
"""What root could use to see what is hidden from it."""

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19

_ENV_START = 50 - 3
"""Of proc(5)'s numbering of /proc/<pid>/stat, among the fields after the program's name."""

_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""The kernel's fixed number (PROC_PID_INIT_INO) for the machine's own."""

_libc: Any = None


def _load() -> Any:
    """The C library. Raises OSError where there is none that ctypes can use."""
    global _libc
    if _libc is None:
        try:
            import ctypes
        except ImportError as error:
            raise OSError(errno.ENOSYS, "this Python has no ctypes") from error
        _libc = ctypes.CDLL(None, use_errno=True)
    return _libc


def _call(name: str, *arguments: object) -> None:
    """Raises OSError."""
    function = getattr(_load(), name, None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(*arguments) != 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _prctl(option: int, value: int) -> bool:
    try:
        _call("prctl", option, value, 0, 0, 0)
    except OSError:
        return False
    return True


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _call("unshare", flags)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2). Raises OSError."""
    arguments = [os.fsencode(text) for text in (source, target, kind)]
    import ctypes

    _call("mount", *arguments, ctypes.c_ulong(flags), os.fsencode(data))


def set_dumpable(value: int) -> bool:
    """True when it is so."""
    return _prctl(_PR_SET_DUMPABLE, value)


def make_undumpable() -> bool:
    """Keep every process of the same user from reading this one's memory and `/proc/<pid>/environ`.

    True when it is so. It does not help against root with its capabilities: :func:`forbid_prying` takes them from
    jobs. It holds from this call on: a process of the same user that looks in the milliseconds before can read the
    one-time token, so the platform takes that token only once.
    """
    return set_dumpable(0)


def wipe_environment(names: Iterable[str]) -> None:
    """Overwrite these variables' values where the kernel keeps this process's environment as it was at exec.

    Some kernels (6.18 does) show `/proc/<pid>/environ` to whoever has CAP_SYS_ADMIN or CAP_PERFMON, undumpable or
    not. `os.environ` is a copy and keeps the values.
    """
    try:
        import ctypes

        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[_ENV_START]), int(fields[_ENV_START + 1])
        wanted = set(map(os.fsencode, names))
        at = start
        for entry in ctypes.string_at(start, end - start).split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name in wanted:
                ctypes.memset(at + len(entry) - len(value), ord("x"), len(value))
            at += len(entry) + 1
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


def forbid_prying(*, hiding: bool = False) -> None:
    """Called in a new child before exec: whatever it executes reads no memory of processes with more rights,
    also when all of them are root.

    `hiding`: nor does it undo what :func:`hodei_agent.hiding.hide` did, or reach around it by itself. A job that is
    root is still the owner of what is root's: it can have other programs of root act for it.
    """
    _lose((CAP_SYS_PTRACE, *WAYS_AROUND) if hiding else (CAP_SYS_PTRACE,))


def _lose(capabilities: Sequence[int]) -> None:
    """Drop them for good: from the bounding set, and from what exec would hand on."""
    for number in capabilities:
        _prctl(_PR_CAPBSET_DROP, number)
    try:
        import ctypes

        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        sets = (
            ctypes.c_uint32 * 6
        )()  # effective, permitted, inheritable: the low halves, then the high ones
        _call("capget", header, sets)
        for number in capabilities:
            half, bit = divmod(number, 32)
            for kind in range(3):
                sets[half * 3 + kind] &= ~(1 << bit) & 0xFFFFFFFF
        _call("capset", header, sets)
    except (ImportError, OSError):
        pass


def die_with_parent(parent_pid: int, death_signal: int) -> None:
    """Called in a new child before exec: it gets `death_signal` when the thread that made it ends."""
    _prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent_pid:
        os._exit(1)
