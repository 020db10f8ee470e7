"""What ``/proc`` says of processes, and signals that reach the process that was meant and no later one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process for its whole life: the number alone may be given to another later.

    ``started`` is field 22 of ``/proc/<pid>/stat``, in clock ticks since boot.
    """

    pid: int
    started: int


@dataclass(frozen=True)
class Seen:
    """A process as it is now."""

    process: Process
    parent: int
    state: str

    @property
    def is_alive(self) -> bool:
        return self.state not in "ZX"


@cache
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def look(pid: int) -> Seen | None:
    """The process with this number, None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].decode().split()  # the name before it is any 15 bytes
    return Seen(Process(pid, int(fields[19])), parent=int(fields[1]), state=fields[0])


def is_alive(process: Process) -> bool:
    """Whether this very process runs; a zombie does not."""
    seen = look(process.pid)
    return seen is not None and seen.process == process and seen.is_alive


def everything() -> list[Seen]:
    """All processes that run now."""
    names = os.listdir("/proc")  # noqa: PTH208
    seen = (look(int(name)) for name in names if name.isdigit())
    return [one for one in seen if one is not None and one.is_alive]


def arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def lives_in(pid: int, folder: Path) -> bool:
    """Whether its working folder is inside this one, or its first environment names it, or what it sees mounted does.

    The last finds what left the folder and forgot its environment, where jobs do not see the platform's files: these mounts are
    of the job alone, and a process cannot leave them.
    """
    inside = f"{folder}/"
    try:
        if f"{Path(f'/proc/{pid}/cwd').readlink()}/".startswith(inside):
            return True
        if inside.encode() in Path(f"/proc/{pid}/environ").read_bytes():
            return True
        if _mount_namespace(str(pid)) == _mount_namespace("self"):
            return False
        escaped = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in inside)
        return escaped.encode() in Path(f"/proc/{pid}/mountinfo").read_bytes()
    except OSError:
        return False


def _mount_namespace(pid: str) -> Path:
    return Path(f"/proc/{pid}/ns/mnt").readlink()


def descendants(processes: Iterable[Seen], roots: set[int]) -> set[Process]:
    """Those whose parents, or parents' parents, are among the roots; not the roots themselves."""
    children: dict[int, list[Seen]] = {}
    for seen in processes:
        children.setdefault(seen.parent, []).append(seen)
    found: set[Process] = set()
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.process not in found:
                found.add(child.process)
                waiting.append(child.process.pid)
    return found


def ancestry(pid: int) -> set[int]:
    """The process and all that it descends from."""
    line: set[int] = set()
    while pid > 0 and pid not in line:
        line.add(pid)
        seen = look(pid)
        pid = seen.parent if seen else 0
    return line


def send(process: Process, number: signal.Signals) -> None:
    """Signal this very process; nothing happens when it has ended. Raises PermissionError."""
    with suppress(ProcessLookupError):
        try:
            handle = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # it is gone; or Linux before 5.3, or a Python that was built there
            if is_alive(process):
                os.kill(process.pid, number)
            return
        try:  # the handle holds the process: its number cannot change hands after this look
            if is_alive(process):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
