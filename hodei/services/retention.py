"""Logs that wait for their file, and how long logs are kept: days are opened before they come, and dropped whole once all in
them has expired.
"""

from __future__ import annotations

import structlog

from hodei.logs.export import delete_exported
from hodei.ports import Platform
from hodei.sagas.settle import export_attempt_log, note_log_file

DAYS_AHEAD = 3
MARGIN_S = 3600.0
"""So long after its end a day is dropped at the earliest, however short logs are kept: what began in it is over by then."""
FILES_AT_ONCE = 1000
EXPORTS_AT_ONCE = 100
DAYS_AT_ONCE = 5

log = structlog.get_logger(__name__)


def tidy_logs(platform: Platform) -> int:
    """Open the next days; export what could not be; delete the files that have expired; drop the days in which all has."""
    with platform.database.glance() as tx:
        opened = int(tx.scalar("log_days_open_ahead", days=DAYS_AHEAD))
    return opened + export_late(platform) + delete_files(platform) + drop_days(platform)


def export_late(platform: Platform) -> int:
    """Write the files of logs whose folder could not be written when their attempts ended; return how many."""
    with platform.database.glance() as tx:
        waiting = tx.rows("executions_log_to_export", limit=EXPORTS_AT_ONCE)
    done = 0
    for execution in waiting:
        written = export_attempt_log(platform, execution)
        if written["storage_uri"] is None and not written.get("unreadable"):
            continue  # it is tried again; what is wrong with one job's folder stops no other's
        with platform.database.begin() as tx:
            if tx.execute("execution_set_log_to_export", id=execution.id, to_export=False):
                note_log_file(
                    platform, tx, job_id=execution.job_id, execution_id=execution.id, written=written
                )
                done += 1
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
    """Delete exported files that have expired; return how many rows were marked."""
    with platform.database.glance() as tx:
        expired = tx.rows("log_files_expired", limit=FILES_AT_ONCE)
        return sum(tx.execute("log_file_set_deleted", id=row.id) for row in expired if delete_exported(row))
