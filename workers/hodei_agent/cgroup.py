"""What the kernel counts for the agent's control group, version 1 or 2."""

from __future__ import annotations

import os
from typing import NamedTuple

CGROUP_ROOT = "/sys/fs/cgroup"
NO_LIMIT_FROM = 1 << 60
"""Version 1 says "no limit" with a number near 2^63."""


class Usage(NamedTuple):
    """CPU seconds since the group was made, and memory without what the kernel can drop at once."""

    cpu_s: float
    memory_bytes: int
    memory_limit_bytes: int | None


def folder_of(controller: str, mountinfo: str, membership: str) -> str | None:
    """The folder of our group for a version 1 controller, or for version 2 if `controller` is empty.

    `mountinfo` and `membership` are the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. In a
    container the mount shows only a part of the hierarchy, so our path is taken relative to the mount's
    root.
    """
    ours = None
    for line in membership.splitlines():
        _, names, path = line.split(":", 2)
        if (controller in names.split(",")) if controller else not names:
            ours = path
    if ours is None:
        return None
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields, kind = head.split(), tail.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] != ("cgroup" if controller else "cgroup2"):
            continue
        if controller and controller not in kind[2].split(","):
            continue
        root, mount = fields[3], fields[4]
        inside = (
            ours[len(root.rstrip("/")) :] if ours == root or ours.startswith(root.rstrip("/") + "/") else ""
        )
        return (mount + inside).rstrip("/")
    return None


def _our_folder(controller: str) -> str | None:
    return folder_of(controller, _text("/proc/self/mountinfo"), _text("/proc/self/cgroup"))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _table(path: str) -> dict[str, int]:
    """A file of lines "name number"."""
    table = {}
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdigit():
            table[name] = int(value)
    return table


def oom_kills() -> int:
    """How often the kernel's out-of-memory killer has killed in our group; 0 where nobody counts."""
    unified = _our_folder("")
    if unified is not None and os.path.exists(unified + "/memory.events"):
        return _table(unified + "/memory.events").get("oom_kill", 0)
    memory = _our_folder("memory")
    return _table(memory + "/memory.oom_control").get("oom_kill", 0) if memory is not None else 0


def memory_limit_bytes() -> int | None:
    """The memory limit of our group, whoever else is in it; None without one."""
    unified = _our_folder("")
    if unified is not None and os.path.exists(unified + "/memory.max"):
        return _number(unified + "/memory.max")
    memory = _our_folder("memory")
    return _limit_v1(memory) if memory is not None else None


def is_ours_alone(folder: str, allowed: set[int]) -> bool:
    """Whether the group holds no process but the allowed ones: whether its numbers are the worker's own."""
    pids = {int(line) for line in _text(folder + "/cgroup.procs").split()}
    return bool(pids) and pids <= allowed


def usage(allowed: set[int]) -> Usage | None:
    """What our group uses, or None when others are in it, or nothing is counted."""
    unified = _our_folder("")
    if unified is not None and os.path.exists(unified + "/memory.current"):
        return read_v2(unified) if is_ours_alone(unified, allowed) else None
    memory, cpu = _our_folder("memory"), _our_folder("cpuacct")
    if memory is None or cpu is None or not (is_ours_alone(memory, allowed) and is_ours_alone(cpu, allowed)):
        return None
    return read_v1(memory, cpu)


def read_v2(folder: str) -> Usage | None:
    """Read a version 2 group."""
    memory = _number(folder + "/memory.current")
    cpu = _table(folder + "/cpu.stat").get("usage_usec")
    if memory is None or cpu is None:
        return None
    reclaimable = _table(folder + "/memory.stat").get("inactive_file", 0)
    return Usage(cpu / 1e6, max(0, memory - reclaimable), _number(folder + "/memory.max"))


def read_v1(memory_folder: str, cpu_folder: str) -> Usage | None:
    """Read a version 1 group's memory and cpuacct controllers."""
    memory = _number(memory_folder + "/memory.usage_in_bytes")
    cpu = _number(cpu_folder + "/cpuacct.usage")
    if memory is None or cpu is None:
        return None
    reclaimable = _table(memory_folder + "/memory.stat").get("total_inactive_file", 0)
    return Usage(cpu / 1e9, max(0, memory - reclaimable), _limit_v1(memory_folder))


def _limit_v1(memory_folder: str) -> int | None:
    limit = _number(memory_folder + "/memory.limit_in_bytes")
    return None if limit is None or limit >= NO_LIMIT_FROM else limit
