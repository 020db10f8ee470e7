"""A worker's ``status`` in the scheduler's words; its ``state`` is the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hodei.domain.self_hosted import SELF_HOSTED

_REGISTRY = {
    "CREATING": "starting",
    "CONNECTING": "starting",
    "READY": "online",
    "BUSY": "online",
    "DRAINING": "online",
    "TERMINATING": "offline",
    "TERMINATED": "offline",
}


def as_registered(worker: dict[str, Any], *, lost_after_s: float) -> dict[str, Any]:
    """The worker with the status that the registry shows, and when it was entered.

    A self-hosted one that is entered is online until nothing was heard of it for ``lost_after_s``.
    """
    status = _REGISTRY[worker["state"]]
    if worker["provider_type"] == SELF_HOSTED and status != "offline":
        heard_at = worker["last_heartbeat"] or worker["created_at"]
        if isinstance(heard_at, str):  # an answer that was kept under an Idempotency-Key
            heard_at = datetime.fromisoformat(heard_at)
        silent_s = (datetime.now(UTC) - heard_at).total_seconds()
        status = "online" if silent_s < lost_after_s else "offline"
    return worker | {"status": status, "registered_at": worker["created_at"]}
