"""The log as a file: written whole, under another name first, so that a reader never sees half of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hodei.logs import store
from hodei.storage.database import Database
from hodei.storage.transaction import Row


def export_log(database: Database, folder: Path, execution: Row) -> dict[str, Any]:
    """Write ``<folder>/<job id>/<execution id>.log``; return its ``storage_uri``, ``size_bytes`` and ``entry_count``.

    Idempotent: a second call writes the same file. A folder that cannot be written raises OSError.
    """
    place = folder.absolute() / str(execution.job_id)
    place.mkdir(parents=True, exist_ok=True)
    target = place / f"{execution.id}.log"
    unfinished = place / f".{execution.id}.{os.getpid()}.part"
    size = 0
    try:
        with unfinished.open("wb") as file:
            for block in store.raw(database, execution.id):
                size += file.write(block)
        unfinished.replace(target)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return {"storage_uri": target.as_uri(), "size_bytes": size, "entry_count": execution.log_entries}
