"""A worker's ``status`` in the words of the service that is asked; its ``state`` is the truth."""

from __future__ import annotations

from typing import Any

LIFECYCLE = {
    "CREATING": "starting",
    "CONNECTING": "starting",
    "READY": "running",
    "BUSY": "running",
    "DRAINING": "stopping",
    "TERMINATING": "stopping",
    "TERMINATED": "stopped",
}
REGISTRY = {
    "CREATING": "starting",
    "CONNECTING": "starting",
    "READY": "online",
    "BUSY": "online",
    "DRAINING": "online",
    "TERMINATING": "offline",
    "TERMINATED": "offline",
}


def worded(worker: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    """The worker with its status in these words."""
    return worker | {"status": words[worker["state"]]}
