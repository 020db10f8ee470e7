"""Finding a free port, and saying in a sentence who holds a taken one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"
LISTENING = "0A"  # the state column of /proc/net/tcp


CHOICE = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, which could take one between its choice and its use."""

_turns = itertools.count(secrets.randbelow(len(CHOICE)))


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody holds at this moment; another one with each call of this process."""
    for turn in itertools.islice(_turns, len(CHOICE)):
        port = CHOICE[turn % len(CHOICE)]
        if is_free(port, host):
            return port
    raise OSError(errno.EADDRINUSE, "no port is free on this machine")


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now; one in TIME_WAIT does not hinder it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def port_holder(port: int, host: str = LOOPBACK) -> str | None:
    """Who keeps us from listening on the port, in a sentence that says what to do; None when it is free."""
    if is_free(port, host):
        return None
    if port < 1024 and os.geteuid() != 0 and not _listening_inodes(port):
        return f"Port {port} is reserved for root: choose one above 1023."
    pid = next(_holders(port), None)
    if pid is None:
        return f"Port {port} is taken by another program: stop it, or choose another port."
    return f"Port {port} is taken by {_name(pid)} (process {pid}): stop it, or choose another port."


def _holders(port: int) -> Iterator[int]:
    """Pids of processes that we may look into and that listen on the port (Linux)."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) in sockets for fd in folder.iterdir()):
                yield int(folder.parent.name)


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    if sys.platform != "linux":
        return found
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                    found.add(words[9])
    return found


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        program = Path(words[0]).name if words[0] else ""
        if program.startswith("python") and len(words) > 2:  # "python hodei" says more than "python"
            program = f"{program} {Path(words[1]).name}"
        if program:
            return program
    return "another program"
