"""Starting the job's first process."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
from typing import NamedTuple, Sequence

from hodei_agent import hiding, linux

PIPE_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031
OOM_SCORE_ABOVE_AGENT = 300


class Child(NamedTuple):
    """A started job: its process and our ends of its pipes."""

    pid: int
    stdout: int
    stderr: int


class SpawnFailed(Exception):
    """The job could not be started. `code` is the protocol's; the text is a sentence for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def spawn(
    command: list[bytes], environment: dict[bytes, bytes], folder: str, hidden: Sequence[str] = ()
) -> Child:
    """Start the command in a session of its own, with no input and nothing of ours open. Raises SpawnFailed.

    Of the `hidden` paths it sees nothing but what is in the folder above `folder`; where that cannot be, it is not
    started. The thread that calls this must live as long as the job: outside a container the kernel kills the
    job's first process when that thread is gone.
    """
    stdout, stdout_end = _pipe()
    stderr, stderr_end = _pipe()
    trouble, trouble_end = os.pipe()
    agent = os.getpid()
    plain = not hidden and os.geteuid() != 0 and linux.dies_with_container()

    def prepare() -> None:
        if hidden:
            try:
                hiding.hide(hidden, os.path.dirname(folder))
            except hiding.HidingFailed as reason:
                os.write(trouble_end, str(reason).encode())
                raise
            os.chdir(folder)
        linux.forbid_prying(hiding=bool(hidden))
        linux.die_with_parent(agent, signal.SIGKILL)

    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout_end,
            stderr=stderr_end,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=None if plain else prepare,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        os.close(stdout)
        os.close(stderr)
        os.set_blocking(trouble, False)
        raise _hiding_failure(trouble) or _failure(error, command[0], folder) from error
    finally:
        for descriptor in (stdout_end, stderr_end, trouble, trouble_end):
            os.close(descriptor)
    process.returncode = 0  # The reaper waits for it, not this object.
    _prefer_for_oom(process.pid)
    return Child(process.pid, stdout, stderr)


def _pipe() -> tuple[int, int]:
    ours, theirs = os.pipe()
    try:
        fcntl.fcntl(ours, _F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:  # The user's limit on pipe memory: a smaller pipe only makes more reads.
        pass
    os.set_blocking(ours, False)
    return ours, theirs


def _prefer_for_oom(pid: int) -> None:
    """Let the kernel take the job before the agent when memory is short: somebody must be left to say so."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", "r+", encoding="ascii") as file:
            score = min(1000, int(file.read()) + OOM_SCORE_ABOVE_AGENT)
            file.seek(0)
            file.write(str(score))
    except (OSError, ValueError):
        pass


def _hiding_failure(trouble: int) -> SpawnFailed | None:
    try:
        reason = os.read(trouble, 4096).decode()
    except BlockingIOError:
        return None
    return SpawnFailed(
        "ERR_1010",
        f"The job was not started, because it could have read the platform's passwords: {reason}. Use Docker, or "
        "run the platform on a Postgres and Redis of your own (HODEI_DATABASE_URL, HODEI_REDIS_URL).",
    )


def _failure(error: Exception, program: bytes, folder: str) -> SpawnFailed:
    name = os.fsdecode(program)
    number = getattr(error, "errno", None)
    if number is None:
        return SpawnFailed("ERR_1004", f"The command could not be started: {error}.")
    if number in (errno.ENOENT, errno.ENOTDIR):
        if getattr(error, "filename", None) == folder:
            return SpawnFailed("ERR_1003", f"The working directory {folder} does not exist.")
        if b"/" in program and os.path.exists(os.path.join(os.fsencode(folder), program)):
            return SpawnFailed(
                "ERR_1001", f"{name!r} exists, but the interpreter or loader that it names does not."
            )
        return SpawnFailed("ERR_1001", f"The command {name!r} was not found; check its name and PATH.")
    if number in (errno.EACCES, errno.EPERM):
        return SpawnFailed("ERR_1002", f"{name!r} may not be executed: permission denied.")
    if number == errno.ENOEXEC:
        return SpawnFailed(
            "ERR_1004", f"{name!r} is not a program that this machine can run (or has no #! line)."
        )
    if number == errno.E2BIG:
        return SpawnFailed("ERR_1004", "The arguments and environment are too large for this machine.")
    return SpawnFailed("ERR_1004", f"{name!r} could not be started: {os.strerror(number)}.")
