"""The log as a file: written whole, under another name first, so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from hodei.logs import store
from hodei.logs.chunks import Log
from hodei.storage.database import Database
from hodei.storage.transaction import Row

log = structlog.get_logger(__name__)

UNFINISHED = ".part"
LOOK_EVERY_BYTES = 1024 * 1024
"""How much is written between two looks whether another process has taken the export over."""
NO_SUCH_CALL = (errno.EINVAL, errno.ENOTSUP)
"""What fsync of a folder answers on file systems that know none."""


def export_log(database: Database, folder: Path, execution: Row) -> dict[str, Any]:
    """Write ``<folder>/<job id>/<execution id>.log``; return its ``storage_uri``, ``size_bytes`` and ``entry_count``.

    It is on the disk, name and all, when this returns. Idempotent: a second call writes the same file, and removes what a call
    that was killed has left; one that still runs, in another process, sees that and raises OSError. So does a folder that cannot
    be written. As long as the disk and Postgres take: who cannot wait asks through :class:`~hodei.logs.folder.LogFolder`.
    """
    place = folder.absolute() / str(execution.job_id)
    place.mkdir(parents=True, exist_ok=True)
    target = place / f"{execution.id}.log"
    for left in place.glob(f".{execution.id}.*{UNFINISHED}"):
        left.unlink(missing_ok=True)
    # Several machines may share the folder, and processes in containers have the same few numbers.
    unfinished = place / f".{execution.id}.{secrets.token_hex(8)}{UNFINISHED}"
    size = look_at = 0
    try:
        with unfinished.open("wb") as file:
            for block in store.raw(database, Log.of(execution)):
                size += file.write(block)
                if size >= look_at:
                    look_at = size + LOOK_EVERY_BYTES
                    if not unfinished.exists():
                        raise FileNotFoundError(errno.ENOENT, "somebody else exports it", str(target))
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves the new name with nothing under it
        unfinished.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    _keep_names(place)
    _keep_names(place.parent)
    return {"storage_uri": target.as_uri(), "size_bytes": size, "entry_count": execution.log_entries}


def _keep_names(folder: Path) -> None:
    """Have the disk keep which names are in the folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in NO_SUCH_CALL:
            raise
    finally:
        os.close(fd)


def delete_exported(row: Row) -> bool:
    """Delete the file of a row of ``job_log_files``; whether it is not there any more. Only what an export wrote is deleted."""
    path = Path(unquote(urlsplit(row.storage_uri).path))
    if (path.parent.name, path.name) != (str(row.job_id), f"{row.execution_id}.log"):
        log.warning("logs.file_left", path=str(path))
        return True
    try:
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as error:
        log.warning("logs.file_not_deleted", path=str(path), reason=error.strerror)
        return False
    return True
