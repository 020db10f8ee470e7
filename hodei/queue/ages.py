"""How long a message has waited: each says when it was sent, because neither Celery nor Redis notes that."""

from __future__ import annotations

import json
import time
from typing import Any

SENT_AT = "hodei_sent_at"
"""The header that says it, in seconds since the epoch, by the sender's clock."""


def stamp(headers: dict[str, Any] | None = None, **_: object) -> None:
    """Before a message is published (Celery's signal ``before_task_publish``)."""
    if headers is not None:
        headers[SENT_AT] = time.time()


def since(sent_at: object) -> float | None:
    """How long ago that is; None when the message does not say it."""
    return max(0.0, time.time() - sent_at) if isinstance(sent_at, int | float) else None


def waited_s(envelope: bytes | None) -> float:
    """How long a message has waited that lies in Redis; 0 without one."""
    if envelope is None:
        return 0.0
    try:
        return since(json.loads(envelope)["headers"].get(SENT_AT)) or 0.0
    except (ValueError, KeyError, AttributeError, TypeError):
        return 0.0
