"""A worker's folder: ``<data>/workers/<deployment>/<worker id>/``, with its record, its output and the
agent's own folder.

The record is there before the process, and is completed after it: one without a pid says that a start was cut
short, and the process, if there is one, is found by the folder in its arguments.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError
from hodei.providers.process.proc import Process

_UNREADABLE = (
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
    ValueError,
    TypeError,
)
_DEPLOYMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a worker's process. ``pid`` None: it is about to be started, or that was cut short."""

    worker_id: str
    job_id: str | None
    boot_id: str
    pid: int | None = None
    started: int | None = None
    limited: bool = False

    @property
    def process(self) -> Process | None:
        return None if self.pid is None or self.started is None else Process(self.pid, self.started)


@dataclass(frozen=True)
class Folder:
    """One worker's folder; nothing is made before :meth:`make`."""

    path: Path

    @property
    def worker_id(self) -> UUID:
        return UUID(self.path.name)

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def exit_file(self) -> Path:
        return self.path / "exit"

    def make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> Record | None:
        """The record; None when there is none yet, or none that can be read: a host that crashed may leave an
        empty one, and a job may close the folder."""
        try:
            return Record(**json.loads((self.path / "worker.json").read_bytes()))
        except _UNREADABLE:
            return None

    def write(self, record: Record) -> None:
        """Replace the record at once and whole; only its owner can read it."""
        draft = self.path / "worker.json.new"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(record), file)
        draft.replace(self.path / "worker.json")

    def exit_code(self) -> int | None:
        """As the process that started it saw it; None when nobody was there to see."""
        try:
            return int(self.exit_file.read_text())
        except (OSError, ValueError):
            return None


class Folders:
    """All workers' folders below ``<data>/workers``."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir.resolve() / "workers"

    def of(self, deployment: str, worker_id: UUID) -> Folder:
        """Where this worker's folder is or would be. Raises ProviderError for a deployment that is no file
        name."""
        if not _DEPLOYMENT.fullmatch(deployment):
            raise ProviderError(
                Failure(code="ERR_5007", message=f"The deployment {deployment!r} cannot be a folder's name.")
            )
        return Folder(self.root / deployment / str(worker_id))

    def find(self, worker_id: UUID) -> Folder | None:
        for path in self.root.glob(f"*/{worker_id}"):
            return Folder(path)
        return None

    def in_deployment(self, deployment: str) -> list[Folder]:
        home = self.of(deployment, UUID(int=0)).path.parent
        try:
            names = sorted(path.name for path in home.iterdir())
        except FileNotFoundError:
            return []
        return [Folder(home / name) for name in names if _is_id(name)]

    @contextmanager
    def locked(self, deployment: str) -> Iterator[None]:
        """One starter or remover at a time, among all processes; a crash lets go."""
        home = self.root / deployment
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(home / ".lock", os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
