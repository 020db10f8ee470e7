"""Heartbeats of many workers in one statement: a thousand agents cost a few statements a second."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hodei.storage.database import Database

GATHER_S = 0.1
"""How long the first of a group waits for others. An agent's heartbeats come seconds apart."""
ANSWER_WITHIN_S = 60.0
"""More than a connection and a statement may take (`storage/database.py`)."""


@dataclass(eq=False, kw_only=True)
class Beat:
    """One worker's heartbeat, and what came of it: ``superseded`` stays None when the worker has ended."""

    worker_id: UUID
    usage: dict[str, Any]
    execution_ids: list[str]
    superseded: list[str] | None = None
    passed_over: bool = False
    failure: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Heartbeats:
    """Groups what comes within a moment. The first to come writes for all; the others wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gathering: dict[Database, list[Beat]] = {}

    def beat(
        self, database: Database, worker_id: UUID, usage: dict[str, Any], execution_ids: list[str]
    ) -> list[str] | None:
        """Note that the worker lives; which of these executions were superseded, or None when the worker has ended.

        Raises DatabaseUnavailable.
        """
        beat = Beat(worker_id=worker_id, usage=usage, execution_ids=execution_ids)
        with self._lock:
            group = self._gathering.setdefault(database, [])
            group.append(beat)
        if group[0] is beat:
            time.sleep(GATHER_S)
            with self._lock:
                del self._gathering[database]
            _write(database, group)
        elif not beat.done.wait(ANSWER_WITHIN_S):
            beat.passed_over = True
        if beat.failure is not None:
            raise beat.failure
        if beat.passed_over:
            _write_alone(database, beat)
        return beat.superseded


def _write(database: Database, group: list[Beat]) -> None:
    try:
        with database.glance() as tx:
            rows = tx.rows(
                "heartbeats",
                ids=[beat.worker_id for beat in group],
                usages=[json.dumps(beat.usage) for beat in group],
                execution_ids=[each for beat in group for each in beat.execution_ids],
            )
        seen = {row.id: row.superseded for row in rows}
        for beat in group:
            beat.superseded = seen.get(beat.worker_id)
            beat.passed_over = beat.superseded is None
    except Exception as error:
        for beat in group:
            beat.failure = error
    finally:
        for beat in group:
            beat.done.set()


def _write_alone(database: Database, beat: Beat) -> None:
    """A worker whose row was held, or that has ended: its own statement waits for the row, and for it alone."""
    with database.glance() as tx:
        row = tx.row("heartbeat", id=beat.worker_id, usage=beat.usage, execution_ids=beat.execution_ids)
    beat.superseded = None if row is None else row.superseded


heartbeats = Heartbeats()
"""What is being gathered in this process."""
