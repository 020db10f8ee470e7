"""The outbox: what happened is handed to the broker after the commit, and by the clock when that did not happen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from hodei.storage.database import Database

log = structlog.get_logger(__name__)

BATCH = 500

Publish = Callable[[Sequence[str]], Any]


def relay(database: Database, publish: Publish, *, older_than_s: float = 0.0) -> int:
    """Hand over what is PENDING, oldest first, and mark it; return how much that was.

    At least once: a crash between handing over and marking hands over again. When the broker is away ``publish``
    raises and the rows stay PENDING: that is not a failed try.
    """
    handed = 0
    while True:
        with database.begin() as tx:
            rows = tx.rows("outbox_claim", older_than_s=older_than_s, limit=BATCH)
            if rows:
                publish([json.dumps(row, default=str) for row in rows])
                tx.execute("outbox_set_published", ids=[row.id for row in rows])
        handed += len(rows)
        if len(rows) < BATCH:
            return handed
