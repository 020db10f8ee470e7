"""Limits for a worker's processes, where this user may write the kernel's cgroups (versions 1 and 2).

Each worker has the group ``hodei/<worker id>``. It also finds processes that left every other trace behind.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
REMOVAL_S = 2.0
"""An emptied group can be busy for a moment until its last process is gone for good."""


class Cgroups:
    """The cgroup file systems below ``root``, as they were found when this was made."""

    def __init__(self, root: Path = ROOT) -> None:
        self.unified = (root / "cgroup.controllers").exists()
        self._homes = (
            [root / "hodei"] if self.unified else [root / "cpu" / "hodei", root / "memory" / "hodei"]
        )
        self.reason = self._open()

    def _open(self) -> str | None:
        """Make our own group above the workers'; the sentence says why that cannot be."""
        try:
            for home in self._homes:
                if not (home.parent / "cgroup.procs").exists():
                    return f"{home.parent} is not a cgroup file system"
                home.mkdir(exist_ok=True)
                if self.unified:
                    for group in (home.parent, home):
                        (group / "cgroup.subtree_control").write_text("+cpu +memory")
                if not os.access(home, os.W_OK):
                    return f"{home} cannot be written"
        except OSError as error:
            return f"cgroups cannot be written here ({error.strerror}: {error.filename})"
        return None

    def make(self, name: str, *, cpu: float | None, memory_bytes: int | None) -> None:
        """Make the worker's group with these limits. Raises OSError."""
        for home in self._homes:
            (home / name).mkdir(exist_ok=True)
        cpu_home, memory_home = self._homes[0] / name, self._homes[-1] / name
        if cpu is not None:
            quota = max(1000, int(cpu * PERIOD_US))
            if self.unified:
                (cpu_home / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            else:
                (cpu_home / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (cpu_home / "cpu.cfs_quota_us").write_text(str(quota))
        if memory_bytes is not None:
            limits = ("memory.max",) if self.unified else ("memory.limit_in_bytes",)
            for limit in limits:
                (memory_home / limit).write_text(str(memory_bytes))
            swap = memory_home / ("memory.swap.max" if self.unified else "memory.memsw.limit_in_bytes")
            if swap.exists():
                swap.write_text("0" if self.unified else str(memory_bytes))

    def add(self, name: str, pid: int) -> None:
        """Move the process there; what it starts from then on is in it, too."""
        for home in self._homes:
            (home / name / "cgroup.procs").write_text(str(pid))

    def members(self, name: str) -> set[int]:
        found: set[int] = set()
        for home in self._homes:
            try:
                found.update(int(line) for line in (home / name / "cgroup.procs").read_text().split())
            except OSError:
                continue
        return found

    def remove(self, name: str) -> None:
        """Remove the worker's group; what cannot be removed is left to the next try."""
        deadline = time.monotonic() + REMOVAL_S
        for home in self._homes:
            while (home / name).exists():
                try:
                    (home / name).rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        return
                    time.sleep(0.005)
