"""Ends all processes of a worker, however they hide."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError
from hodei.providers.process import proc
from hodei.providers.process.cgroup import Cgroups
from hodei.providers.process.folder import Folder
from hodei.providers.process.proc import Process

PATIENCE_S = 20.0
"""A killed process goes at once, unless it waits for a disk or a network file system."""


def find_agent(folder: Folder) -> Process | None:
    """The agent of this folder, by its arguments: for a start that was cut short before its pid was noted."""
    wanted = os.fsencode(folder.state)
    for seen in proc.everything():
        words = proc.arguments(seen.process.pid)
        if wanted in words and b"--state-dir" in words:
            return seen.process
    return None


def members(folder: Folder, agent: Process | None, cgroups: Cgroups | None) -> set[Process]:
    """All processes of the worker: the agent, what descends from it, what lives in its folder, what is in its
    cgroup.

    Those that an ended agent left are found by their folder, environment or cgroup. Never ourselves or what
    started us.
    """
    processes = proc.everything()
    by_pid = {seen.process.pid: seen.process for seen in processes}
    group = cgroups.members(folder.path.name) if cgroups else set()
    found = {by_pid[pid] for pid in group if pid in by_pid}
    if agent is not None and by_pid.get(agent.pid) == agent:
        found.add(agent)
    wanted = os.fsencode(folder.state)
    for seen in processes:
        process = seen.process
        if process in found or seen.parent == 2 or (agent is not None and process.started < agent.started):
            continue
        if wanted in proc.arguments(process.pid) or proc.lives_in(process.pid, folder.path):
            found.add(process)
    found |= proc.descendants(processes, {process.pid for process in found})
    ours = proc.ancestry(os.getpid())
    return {process for process in found if process.pid not in ours}


def end(folder: Folder, agent: Process | None, cgroups: Cgroups | None, *, grace_s: float) -> None:
    """TERM to the agent, which ends its job in order; after ``grace_s`` KILL to everything, until nothing is
    left.

    Raises ProviderError (ERR_5006) for a process that does not go.
    """
    if agent is not None and grace_s > 0:
        proc.send(agent, signal.SIGTERM)
        _until(lambda: not proc.is_alive(agent), grace_s)
    deadline = time.monotonic() + PATIENCE_S
    while left := members(folder, agent, cgroups):
        for process in sorted(
            left, key=lambda one: one != agent
        ):  # the agent first: it must not report their end
            with suppress(PermissionError):  # it became another user's: said below, when it does not go
                proc.send(process, signal.SIGKILL)
        _until(partial(_all_gone, left), 1.0)
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise ProviderError(
                Failure(
                    code="ERR_5006",
                    message=f"The worker's processes {pids} do not end though they were killed.",
                ),
                transient=True,
            )


def _all_gone(processes: set[Process]) -> bool:
    return not any(proc.is_alive(process) for process in processes)


def _until(fact: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    pause_s = 0.001
    while not fact() and time.monotonic() < deadline:
        time.sleep(pause_s)
        pause_s = min(0.02, pause_s * 2)
