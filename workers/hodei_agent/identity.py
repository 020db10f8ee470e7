"""What a self-hosted worker's agent keeps between its lives: who it is, and what it was doing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from typing import NamedTuple

_OWNER_ONLY = 0o700


class Kept(NamedTuple):
    """Who the worker is: what it registers with, again and again. A spent token is worth nothing without the session's."""

    server: str
    worker_id: str
    token: str
    session_token: str


class AlreadyInUse(Exception):
    """Another agent has this folder."""


class Home:
    """The agent's folder. Jobs do not see :attr:`secret`; their own folders are beside it."""

    def __init__(self, path: str | None) -> None:
        self.path = path or _usual_path()
        self.secret = f"{self.path}/identity"
        self._file = f"{self.secret}/worker.json"
        self._running = f"{self.secret}/running"
        self._lock: int | None = None

    def open(self) -> None:
        """Make it if it is not there, and take it for this process and its children. Raises OSError, AlreadyInUse."""
        os.makedirs(self.path, _OWNER_ONLY, exist_ok=True)
        os.makedirs(self.secret, _OWNER_ONLY, exist_ok=True)
        self._lock = os.open(f"{self.path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyInUse(self.path) from None

    def read(self) -> Kept | None:
        """Who the worker is; None when nothing is kept, or nothing that can be read."""
        try:
            with open(self._file, encoding="ascii") as file:
                return Kept(**json.load(file))
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, kept: Kept) -> None:
        """At once and whole, for the owner alone. Raises OSError."""
        draft = f"{self._file}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(kept._asdict(), file)
            file.flush()
            os.fsync(descriptor)
        os.rename(draft, self._file)

    def forget(self) -> None:
        """The worker is nobody any more, or must not be kept here."""
        for path in (self._file, self._running):
            try:
                os.unlink(path)
            except OSError:
                pass

    def note_running(self, execution_id: str) -> None:
        """Which execution is about to begin: what is left of it can be found by its id, should the agent be gone suddenly."""
        with open(self._running, "w", encoding="ascii") as file:
            file.write(execution_id)

    def last_running(self) -> str | None:
        """The execution that began last, in whichever life."""
        try:
            with open(self._running, encoding="ascii") as file:
                return file.read() or None
        except OSError:
            return None

    def clear_jobs(self) -> None:
        """Remove what earlier lives left of their jobs' folders."""
        for name in os.listdir(self.path):
            if name.startswith("hodei-"):
                shutil.rmtree(f"{self.path}/{name}", ignore_errors=True)


def _usual_path() -> str:
    if os.geteuid() == 0:
        return "/var/lib/hodei-agent"
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{state}/hodei-agent"
