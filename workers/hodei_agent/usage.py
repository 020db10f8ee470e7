"""What the worker uses, for its heartbeats."""

from __future__ import annotations

import os
import time
from typing import Any

from hodei_agent import cgroup
from hodei_agent.process_tree import descendants, living

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Meter:
    """Reads the control group if the worker has one to itself, else adds up its processes."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def read(self) -> dict[str, Any]:
        """The heartbeat's fields; `cpu_fraction` is of one core, since the reading before (0 at first)."""
        usage = cgroup.usage(_own_processes()) or _add_up()
        now = time.monotonic()
        fraction = 0.0
        if self._last is not None and now > self._last[0]:
            fraction = max(0.0, usage.cpu_s - self._last[1]) / (now - self._last[0])
        self._last = (now, usage.cpu_s)
        return {
            "cpu_s": round(usage.cpu_s, 3),
            "cpu_fraction": round(fraction, 4),
            "memory_bytes": usage.memory_bytes,
            "memory_limit_bytes": usage.memory_limit_bytes,
        }


def _own_processes() -> set[int]:
    """The agent, what is above it, and what is below it."""
    processes = living()
    own = {process.pid for process in descendants(os.getpid())}
    pid = os.getpid()
    while pid in processes and pid not in own:
        own.add(pid)
        pid = processes[pid].parent
    return own


def _add_up() -> cgroup.Usage:
    """CPU time and resident memory of the agent and its descendants, with what ended processes used."""
    cpu_ticks = pages = 0
    for pid in [os.getpid(), *(process.pid for process in descendants(os.getpid()))]:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        cpu_ticks += sum(map(int, fields[11:15]))
        pages += int(fields[21])
    return cgroup.Usage(cpu_ticks / _TICKS, pages * _PAGE_BYTES, None)
