"""A worker's ``status`` in the scheduler's words; its ``state`` is the truth."""

from __future__ import annotations

from typing import Any

_REGISTRY = {
    "CREATING": "starting",
    "CONNECTING": "starting",
    "READY": "online",
    "BUSY": "online",
    "DRAINING": "online",
    "TERMINATING": "offline",
    "TERMINATED": "offline",
}


def as_registered(worker: dict[str, Any]) -> dict[str, Any]:
    """The worker with the status that the registry shows."""
    return worker | {"status": _REGISTRY[worker["state"]]}
