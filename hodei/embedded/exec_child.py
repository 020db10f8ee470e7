"""Becomes another program: drops to a user, asks to die with the parent, then executes.

Run as ``python -I -S exec_child.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM ARGUMENT…``; -1 for no user,
0 for no signal. With a user, PROGRAM is a full path: that user may be unable to load more of this Python.

It is a program of its own because code between fork and exec is unsafe in a threaded parent, and because the
kernel forgets the death signal when the user changes, so the order below matters.
"""

import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    parent, death_signal, uid, gid = (int(word) for word in argv[:4])
    program = argv[4:]
    tie = _death_tie() if death_signal and sys.platform == "linux" else None
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if tie:
        tie(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("The parent is gone already.")
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    if uid >= 0:
        os.umask(0o077)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(f"{program[0]} cannot be started: {error.strerror}")


def _death_tie() -> Callable[..., int]:
    """Imported while we are still who can read this Python, which may lie in root's home."""
    import ctypes

    return ctypes.CDLL(None).prctl


if __name__ == "__main__":
    main(sys.argv[1:])
