"""Logs that wait for their file, and how long logs are kept: days are opened before they come, and dropped whole once all in
them has expired.
"""

from __future__ import annotations

import time

import structlog

from hodei.logs.export import delete_exported
from hodei.ports import Platform
from hodei.sagas.settle import OF_STEP_LIMIT, export_attempt_log, note_late_export
from hodei.storage.transaction import Row

DAYS_AHEAD = 3
MARGIN_S = 3600.0
"""So long after its end a day is dropped at the earliest, however short logs are kept: what began in it is over by then."""
FILES_AT_ONCE = 1000
EXPORTS_AT_ONCE = 100
EXPORTS_FOR_S = 6.0
"""How long a turn begins with one more log: with DELETES_FOR_S, as long as the clock that turns holds the loop for sure."""
EXPORT_LOOK_S = 2.0
"""After so long the next log is begun; the one before goes on, and is noted when it is done."""
DELETES_FOR_S = 3.0
"""How long a turn waits for files to be deleted; the deleting goes on."""
DAYS_AT_ONCE = 5

log = structlog.get_logger(__name__)


def tidy_logs(platform: Platform) -> int:
    """Drop the days in which all has expired; open the next days; delete the files that have expired; export what could not be.

    What makes room comes first, and what needs none: the disk may be full. One that fails keeps no other from being done; the
    first failure is raised at the end.
    """
    done = 0
    first: Exception | None = None
    for step in (drop_days, open_days, delete_files, export_late):
        try:
            done += step(platform)
        except Exception as error:
            if first is not None:
                log.warning("logs.not_tidied", step=step.__name__, reason=str(error))
            first = first or error
    if first is not None:
        raise first
    return done


def open_days(platform: Platform) -> int:
    """Open the partitions of today and the days to come; return how many there were not."""
    with platform.database.glance() as tx:
        return int(tx.scalar("log_days_open_ahead", days=DAYS_AHEAD))


def export_late(platform: Platform) -> int:
    """Write the files of logs whose folder could not be written when their attempts ended; return how many.

    For a few seconds: what takes long goes on meanwhile and is not counted, what was not reached comes in the next turn.
    """
    with platform.database.glance() as tx:
        waiting = tx.rows("executions_log_to_export", limit=EXPORTS_AT_ONCE)
    done = 0
    until = time.monotonic() + min(EXPORTS_FOR_S, OF_STEP_LIMIT * platform.settings.step_limit)
    for execution in waiting:
        left = until - time.monotonic()
        if left <= 0:
            break
        written = export_attempt_log(platform, execution, wait_s=min(EXPORT_LOOK_S, left))
        # One that was not written is tried again; what is wrong with one job's folder stops no other's.
        done += note_late_export(platform, execution, written)
    return done


def drop_days(platform: Platform) -> int:
    """Drop the partitions of the days whose logs have all expired; return how many. One in use is left for the next time."""
    dropped = 0
    with platform.database.glance() as tx:
        due = tx.rows(
            "log_days_to_drop",
            retention_s=platform.settings.log_retention,
            margin_s=MARGIN_S,
            limit=DAYS_AT_ONCE,
        )
        for row in due:
            if tx.scalar("log_day_drop", day=row.day):
                log.info("logs.day_dropped", day=str(row.day))
                dropped += 1
    return dropped


def delete_files(platform: Platform) -> int:
    """Delete exported files that have expired; return how many rows were marked. Deleting that takes long goes on by itself."""

    def mark(deleted: list[Row]) -> int:
        with platform.database.glance() as tx:
            return sum(tx.execute("log_file_set_deleted", id=row.id) for row in deleted)

    with platform.database.glance() as tx:
        expired = tx.rows("log_files_expired", limit=FILES_AT_ONCE)
    if not expired:
        return 0
    try:
        deleted = platform.log_folder.do(
            "delete",
            lambda: [row for row in expired if delete_exported(row)],
            wait_s=min(DELETES_FOR_S, OF_STEP_LIMIT * platform.settings.step_limit),
            late=mark,
        )
    except TimeoutError as error:
        log.warning("logs.files_not_deleted", path=str(platform.settings.log_dir), reason=error.strerror)
        return 0
    return mark(deleted)
