"""The processes that descend from the agent: finding, signalling and reaping them."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple


class Process(NamedTuple):
    """A living process. `started` (clock ticks since boot) tells it from a later one with the same number."""

    pid: int
    parent: int
    started: int


class Reaped(NamedTuple):
    """A child that ended: its wait status and what it and the children that it waited for used."""

    pid: int
    status: int
    cpu_s: float
    max_rss_bytes: int


def _stat(pid: int) -> Process | None:
    """The process, or None when there is none or only its zombie is left."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return Process(pid, int(fields[1]), int(fields[19]))


def living() -> dict[int, Process]:
    """Every living process that /proc shows."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = _stat(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def descendants(root: int) -> list[Process]:
    """Every living descendant of `root`, parents before children.

    Below a subreaper nothing gets lost: a process whose parent ends becomes the subreaper's child, a
    daemon's too.
    """
    children: dict[int, list[Process]] = {}
    for process in living().values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found.extend(below)
        queue.extend(process.pid for process in below)
    return found


def marked(execution_id: str) -> list[Process]:
    """The living processes whose environment names this execution: for where there is no subreaper."""
    mark = b"HODEI_EXECUTION_ID=" + execution_id.encode()
    found = []
    for process in living().values():
        try:
            with open(f"/proc/{process.pid}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(process)
        except OSError:
            continue
    return found


def _is_the_same(process: Process) -> bool:
    """Whether it lives still, whosever child it is by now."""
    now = _stat(process.pid)
    return now is not None and now.started == process.started


def send(process: Process, number: int) -> bool:
    """Signal exactly that process. False when we may not."""
    try:
        if not hasattr(os, "pidfd_open"):
            os.kill(process.pid, number)
            return True
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:  # It is gone, or the kernel or its seccomp filter has no pidfd_open.
            if _is_the_same(process):
                os.kill(process.pid, number)
            return True
        try:
            if _is_the_same(process):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    except OSError:
        os.kill(process.pid, number)
    return True


def reap() -> list[Reaped]:
    """Collect every child that has ended: the job's first process and adopted orphans. Never waits."""
    ended: list[Reaped] = []
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append(Reaped(pid, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))


def have_children() -> bool:
    """Whether the agent has any child left. For a subreaper: whether it has any descendant."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class Tree:
    """All processes of the execution that runs now."""

    def __init__(self, execution_id: str, *, subreaper: bool) -> None:
        self._execution_id = execution_id
        self._subreaper = subreaper

    def members(self) -> list[Process]:
        """The tree's living processes."""
        found = descendants(os.getpid())
        if not self._subreaper:
            known = {process.pid for process in found}
            found += [p for p in marked(self._execution_id) if p.pid not in known and p.pid != os.getpid()]
        return found

    def is_gone(self) -> bool:
        """Whether no process of the tree lives."""
        if have_children():
            return not self.members()
        return self._subreaper or not self.members()

    def terminate(self) -> None:
        """TERM to every process, and CONT so that stopped ones hear it."""
        for process in self.members():
            send(process, signal.SIGTERM)
            send(process, signal.SIGCONT)

    def kill(self) -> list[Process]:
        """KILL to every process, also to those born meanwhile. Returns those that we may not signal."""
        refused: dict[int, Process] = {}
        killed = set()
        for _ in range(100):
            fresh = [p for p in self.members() if (p.pid, p.started) not in killed]
            if not fresh:
                break
            for process in fresh:
                killed.add((process.pid, process.started))
                if not send(process, signal.SIGKILL):
                    refused[process.pid] = process
        return list(refused.values())
