"""One attempt at a job, from `run` to the result. Lives in the main thread; nothing in it waits."""

from __future__ import annotations

import os
import time
from typing import Callable, Sequence

from hodei_agent import command, job_environment, outcome, outputs
from hodei_agent.cgroup import memory_limit_bytes, oom_kills
from hodei_agent.definition import Definition, check
from hodei_agent.errors import BadDefinition
from hodei_agent.intake import Intake, wall_us
from hodei_agent.pipes import Pipes
from hodei_agent.process_tree import Reaped, Tree
from hodei_agent.sender import Sender
from hodei_agent.spawn import Child, SpawnFailed, spawn

LEFTOVER_GRACE_S = 2.0
"""What a job leaves running behind its first process gets no longer than this between TERM and KILL."""
LONGEST_MESSAGE = 4096
LOOK_AGAIN_S = 0.02
KILL_AGAIN_S = 0.1
UNKILLABLE_AFTER_S = 5.0
"""After this long, processes of another user that we may not signal are left alone, and the log says so."""


class Execution:
    """Starts the job when told that it is accepted; then the main loop tells it what happened.

    Order matters at the end: the tree is gone before the pipes are drained, and they are drained before the
    result is handed over. So nothing written is lost and nothing runs on behind the result.
    """

    def __init__(
        self,
        definition: Definition,
        sender: Sender,
        intake: Intake,
        tree: Tree,
        folders: Callable[[], job_environment.Folders],
        state_dir: str,
        path: str,
        hidden: Sequence[str] = (),
    ) -> None:
        self.definition = definition
        self.sender = sender
        self._intake = intake
        self._tree = tree
        self._make_folders = folders
        self._path = path
        self._hidden = hidden
        self.folders: job_environment.Folders | None = None
        self._output = Pipes(intake, state_dir, memory_limit_bytes())
        self._child: Child | None = None
        self._status: int | None = None
        self._stop_reason: str | None = None
        self._timeout_at: float | None = None
        self._idle_at: float | None = None
        self._kill_at: float | None = None
        self._look_at: float | None = None
        self._refused_since: float | None = None
        self._leftovers_told = False
        self._started_us = self._finished_us = 0
        self._oom_kills_before = 0
        self._cpu_s = 0.0
        self._max_rss_bytes = 0
        self._silent = False
        self.is_over = False
        """Nothing of the job is left; its result is on its way, or will never be sent."""
        self.is_delivered = False
        """The platform has the result, or wants none."""

    # What the platform, the clock and the kernel say

    def start(self) -> None:
        """The attempt was accepted: start the job, or report why not."""
        if self._silent:
            return
        self._started_us = wall_us()
        if self._stop_reason is not None:
            self._finish(outcome.stopped(self._stop_reason, None))
            return
        definition = self.definition
        try:
            check(definition)
            self.folders = self._make_folders()
            environment = job_environment.build(definition, self.folders, self._path)
            path = os.fsdecode(environment[b"PATH"])
            arguments = command.build(definition, self.folders.root + "/script", path)
            self._oom_kills_before = oom_kills()
            self._child = spawn(arguments, environment, self.folders.home, self._hidden)
        except BadDefinition as error:
            self._finish(outcome.not_started("ERR_1009", str(error)))
            return
        except UnicodeEncodeError:
            message = "A text in the job's definition holds characters that cannot be passed to a program."
            self._finish(outcome.not_started("ERR_1009", message))
            return
        except SpawnFailed as failure:
            self._finish(outcome.not_started(failure.code, str(failure)))
            return
        except OSError as error:
            message = f"The job's folders could not be made: {error.strerror} ({error.filename})."
            self._finish(outcome.not_started("ERR_1012", message))
            return
        now = time.monotonic()
        self._started_us = wall_us()
        self.sender.started(self._child.pid, self._started_us)
        self._output.open(self._child.stdout, self._child.stderr)
        self._timeout_at = None if definition.timeout_s is None else now + definition.timeout_s
        self._idle_at = None if definition.idle_s is None else now + definition.idle_s

    def stop(self, reason: str, grace_s: float) -> None:
        """End the job: TERM now, KILL after `grace_s`. The first reason and the shortest grace count."""
        if self.is_over:
            return
        if self._stop_reason is None and self._status is None:
            self._stop_reason = reason
        if self._child is None:
            return
        kill_at = time.monotonic() + grace_s
        if self._kill_at is None:
            self._tree.terminate()
            self._look_at = time.monotonic()
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def abandon(self) -> None:
        """End the job at once and say nothing more about it."""
        self._silent = self.is_delivered = self._output.is_muted = True
        self.sender.abandon()
        self.stop("abandoned", 0.0)
        if self._child is None:
            self.is_over = True

    def reaped(self, child: Reaped) -> None:
        """A process of the tree has ended."""
        if self._child is None or self.is_over:
            return
        self._cpu_s += child.cpu_s
        self._max_rss_bytes = max(self._max_rss_bytes, child.max_rss_bytes)
        if child.pid == self._child.pid:
            self._status = child.status
            self._finished_us = wall_us()
        self._look_at = time.monotonic()

    @property
    def pipes(self) -> dict[int, int]:
        """The job's pipes that are to be waited for now, and their streams."""
        return self._output.wanted()

    def readable(self) -> None:
        """A pipe has something to read, or has ended, or is due to be looked at."""
        if (self._output.work() or self._output.is_full) and self.definition.idle_s is not None:
            self._idle_at = None if self._idle_at is None else time.monotonic() + self.definition.idle_s

    def next_at(self) -> float | None:
        """When :meth:`tick` is due, on the monotonic clock, or None."""
        times = (
            self._timeout_at,
            self._idle_at,
            self._kill_at,
            self._look_at,
            self._intake.next_at(self._output.behind()),
            self._output.next_at(),
        )
        return min((t for t in times if t is not None), default=None)

    def tick(self) -> None:
        """Do what is due."""
        if self.is_over or self._child is None:
            return
        now = time.monotonic()
        # Before a part of a line is let go, too: the rest may have come while we were kept from running.
        for due_at in (self._output.next_at(), self._intake.due_at(self._output.behind())):
            if due_at is not None and now >= due_at:
                self.readable()
                break
        self._intake.tick(now, self._output.behind(now))
        if self._timeout_at is not None and now >= self._timeout_at:
            self._timeout_at = None
            self.stop("timeout", self.definition.grace_s)
        if self._idle_at is not None and now >= self._idle_at:
            self._idle_at = None
            self.stop("idle_timeout", self.definition.grace_s)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill(now)
        if self._look_at is not None and now >= self._look_at:
            self._look(now)

    # What follows from it

    def _look(self, now: float) -> None:
        """Whether the job is over; if only its first process is, end what that left running."""
        self._look_at = None
        if self._status is None:
            return
        self._timeout_at = self._idle_at = None
        if self._tree.is_gone():
            self._end()
            return
        if not self._leftovers_told and self._kill_at is None:
            self._leftovers_told = True
            self._tree.terminate()
            self._kill_at = now + min(self.definition.grace_s, LEFTOVER_GRACE_S)
        self._look_at = now + LOOK_AGAIN_S

    def _kill(self, now: float) -> None:
        refused = self._tree.kill()
        self._kill_at = now + KILL_AGAIN_S
        self._look_at = now
        if not refused:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > UNKILLABLE_AFTER_S and self._status is not None:
            numbers = ", ".join(str(process.pid) for process in refused)
            self._intake.remark(f"processes {numbers} belong to another user and could not be ended")
            self._end()

    def _end(self) -> None:
        assert self._status is not None
        if self._silent:
            self._finish(None)
            return
        reason = self._stop_reason
        if reason is None:
            oom_killed = oom_kills() > self._oom_kills_before
            self._finish(outcome.ended(self._status, oom_killed=oom_killed))
        else:
            limit_s = self.definition.idle_s if reason == "idle_timeout" else self.definition.timeout_s
            self._finish(outcome.stopped(reason, self._status, limit_s))

    def _finish(self, how: outcome.Outcome | None) -> None:
        self._output.drain()
        self.is_over = True
        self._kill_at = self._look_at = self._timeout_at = self._idle_at = None
        if how is None:
            return
        intake = self._intake
        handed_on = self._handed_on()
        intake.finish(time.monotonic())
        self.sender.finish(
            {
                "fence": self.definition.fence,
                "outcome": how.name,
                "exit_code": how.exit_code,
                "signal": how.signal,
                "error_code": how.error_code,
                "error_message": _shortened(intake.masked(how.message)),
                "started_at": self._started_us,
                "finished_at": self._finished_us or wall_us(),
                "log_entries": intake.entries,
                "log_bytes": intake.bytes,
                "dropped_entries": intake.dropped_entries,
                "dropped_bytes": intake.dropped_bytes,
                "lost_bytes": intake.lost_bytes,
                "truncated": intake.truncated,
                "usage": {"cpu_s": round(self._cpu_s, 6), "max_rss_bytes": self._max_rss_bytes},
                "outputs": {key: intake.masked(value) for key, value in handed_on.values.items()},
                "outputs_problem": intake.masked(handed_on.problem),
            }
        )

    def _handed_on(self) -> outputs.Outputs:
        """What the job wrote to `$HODEI_OUTPUT`; what of it cannot be taken, the log says."""
        if self.folders is None or self._child is None:
            return outputs.Outputs({})
        found = outputs.read(self.folders.output)
        if found.problem is not None:
            self._intake.remark(found.problem)
        return found


def _shortened(message: str | None) -> str | None:
    """A message holds what a user wrote, a program's name of any length too."""
    if message is None or len(message) <= LONGEST_MESSAGE:
        return message
    return message[: LONGEST_MESSAGE // 2] + " … " + message[-LONGEST_MESSAGE // 2 :]
