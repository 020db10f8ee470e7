"""What tests have done by other processes. Each function is the whole of such a process."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from hodei.domain.states import SagaState
from hodei.queue.fanout import RedisWakeups
from hodei.sagas.audit import Audit, advance
from hodei.storage import migrate
from hodei.storage.database import Database
from support.core import Core


def dispatch_and_run(database_url: str, threads: int) -> None:
    """Dispatch a few times from several threads, and run what that makes."""
    with tempfile.TemporaryDirectory() as folder:
        core = Core(database_url, Path(folder))
        for _ in range(4 * threads):
            core.courier.look()
        working = [threading.Thread(target=core.drain) for _ in range(threads)]
        for thread in working:
            thread.start()
        for thread in working:
            thread.join(30)
        core.close()


def _shift_clock(seconds: float) -> None:
    """This process's clock is that much off, for all of Python."""
    really, really_ns = time.time, time.time_ns
    time.time = lambda: really() + seconds
    time.time_ns = lambda: really_ns() + int(seconds * 1e9)


COMMITTED = text("INSERT INTO hodei.committed (aggregate_id, event) VALUES (:id, :event)")
"""Written after the event, under the lock of its aggregate: its number is the order in which they were committed."""


def write_events(database_url: str, jobs: list[UUID], count: int, shift_s: float, name: str) -> None:
    """Write ``count`` events to the jobs in turn, a few per transaction."""
    _shift_clock(shift_s)
    database = Database(database_url)
    for first in range(0, count, 10):
        job_id = jobs[first // 10 % len(jobs)]
        with database.begin() as tx:
            tx.row("job_lock", id=job_id)
            for number in range(first, first + 10):
                event = f"{name} {number}"
                tx.record("job", job_id, "Tested", {"event": event}, actor=name)
                tx.connection.execute(COMMITTED, {"id": job_id, "event": event})
    database.close()


def write_audits(database_url: str, saga_id: UUID, count: int, shift_s: float, name: str) -> None:
    """Append twice ``count`` audit events to one saga, two at a time."""
    _shift_clock(shift_s)
    database = Database(database_url)
    for number in range(count):
        with database.begin() as tx:
            tx.row("saga_lock", id=saga_id)
            words = [f"{name} {number} {part}" for part in "ab"]
            advance(tx, saga_id, SagaState.IN_PROGRESS, *(Audit("Tested", word) for word in words))
            for word in words:
                tx.connection.execute(COMMITTED, {"id": saga_id, "event": word})
    database.close()


def migrate_there(database_url: str) -> bool:
    """Migrate, as each server does when it starts."""
    return migrate.upgrade(database_url)


def wake_there(redis_url: str, channel: str, key: str) -> None:
    """Wake whoever waits for the key in another process."""
    wakeups = RedisWakeups(redis_url, channel, lambda keys: set())
    wakeups.wake(key)
    wakeups.close()
    for thread in wakeups._threads:
        thread.join(5)
