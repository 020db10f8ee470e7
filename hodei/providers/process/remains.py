"""What an ended worker leaves on the disk: put aside in one move, and removed while nobody waits for it.

It is called ``<worker id>.left-<pid>-<started>-<any>``, beside the workers' folders and no worker's any more. The
process in its name removes it, or has said why it cannot; once that process has ended, another one takes it over.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import structlog

from hodei.providers.process import proc
from hodei.providers.process.proc import Process

log = structlog.get_logger(__name__)

_NAME = re.compile(r"(?P<worker_id>.+)\.left-(?P<pid>[0-9]+)-(?P<started>[0-9]+)-[0-9a-f]+")


def put_aside(folder: Path) -> Path:
    """Make an ended worker's folder, or what another process put aside, ours to remove. Raises OSError."""
    us = proc.look(os.getpid())
    started = us.process.started if us else 0
    name = f"{_worker_id(folder)}.left-{os.getpid()}-{started}-{uuid4().hex[:8]}"
    return folder.rename(folder.with_name(name))


def abandoned(root: Path) -> Iterator[Path]:
    """What processes that have ended put aside below ``root``, in any deployment; each is ours from then on."""
    for path in list(root.glob("*/*.left-*")):
        name = _NAME.fullmatch(path.name)
        if name is None or proc.is_alive(Process(int(name["pid"]), int(name["started"]))):
            continue
        try:
            ours = put_aside(path)
        except OSError:
            continue  # another process was faster
        yield ours


def remove(left: Path) -> None:
    """Remove what was put aside; what cannot be removed stays, and is said in the log."""
    obstacle = _clear(left)
    if obstacle is not None and left.exists():
        log.warning(
            "worker.folder_not_removed",
            worker_id=_worker_id(left),
            path=str(left),
            reason=f"{obstacle.strerror}: {obstacle.filename!r}",
            instead="Remove it by hand.",
        )


def _worker_id(folder: Path) -> str:
    name = _NAME.fullmatch(folder.name)
    return name["worker_id"] if name else folder.name


def _clear(left: Path) -> OSError | None:
    """Remove all that can be removed; the first that could not be.

    Each folder is moved to the top before it is emptied: so none is too deep, and none is entered that is mounted
    from elsewhere, because a mount cannot be moved.
    """
    obstacle: OSError | None = None
    try:
        open_folders = [(left, _entries(left))]
    except OSError as error:
        return error
    while open_folders:
        folder, entries = open_folders[-1]
        try:
            if not entries:
                open_folders.pop()
                folder.rmdir()
            elif (entry := entries.pop()).is_dir(follow_symlinks=False):
                if moved := _moved(Path(entry), left / uuid4().hex):
                    open_folders.append((moved, _entries(moved)))
            else:
                Path(entry).unlink()
        except OSError as error:
            obstacle = obstacle or error
    return obstacle


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(PermissionError):  # another user's, who may let us in all the same
        folder.chmod(stat.S_IRWXU)
    with os.scandir(folder) as found:
        return list(found)


def _moved(folder: Path, to: Path) -> Path | None:
    """Where it is now; None when it could only be removed: another user's, and empty. Raises OSError."""
    with suppress(PermissionError):
        return folder.rename(to)
    try:
        folder.chmod(stat.S_IRWXU)  # the job closed it
        return folder.rename(to)
    except PermissionError:
        with suppress(OSError):
            folder.rmdir()
            return None
        raise
