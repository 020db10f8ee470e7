"""Tells one process from a later one that got the same pid. Standard library only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path


def started_at(pid: int) -> str | None:
    """When the process started, as an opaque word; None when it is gone or a zombie."""
    if pid <= 0:
        return None
    if sys.platform != "linux":
        return _started_at_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].decode().split()  # the name before it is any 15 bytes
    return None if fields[0] in "ZX" else fields[19]


def lives(pid: int, started: str) -> bool:
    """Whether this very process, not just its number, is alive."""
    return bool(started) and started_at(pid) == started


def works_in(pid: int, program: str, folder: Path) -> bool:
    """Whether the process is alive, is `program`, and has `folder` as working folder: both servers go
    to their data. Where we may not look (root in a container, at another user's) owner and words will do."""
    if started_at(pid) is None:
        return False
    if sys.platform != "linux":
        command = _ps(pid, "command")
        return program in command and str(folder) in command
    process = Path(f"/proc/{pid}")
    try:
        if process.joinpath("comm").read_bytes().strip() != program.encode():
            return False
        try:
            return process.joinpath("cwd").readlink() == folder.resolve()
        except PermissionError:
            same_owner = process.stat().st_uid == folder.stat().st_uid
            return same_owner and os.fsencode(folder) in process.joinpath("cmdline").read_bytes()
    except OSError:
        return False


def all_working_in(program: str, folder: Path) -> Iterator[int]:
    """The processes of which `works_in` is true (Linux)."""
    for process in Path("/proc").glob("[0-9]*"):
        if works_in(int(process.name), program, folder):
            yield int(process.name)


def _started_at_by_ps(pid: int) -> str | None:
    if _ps(pid, "state").startswith("Z"):
        return None
    return _ps(pid, "lstart") or None


def _ps(pid: int, column: str) -> str:
    import subprocess  # slow to import, and needed only where there is no /proc

    done = subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
