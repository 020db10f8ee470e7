"""Times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = "1970-01-01T00:00:00Z"
"""What the kubelet says of a container that never began."""


def now() -> str:
    """This second, as in ``metadata.creationTimestamp``."""
    return written(datetime.now(UTC))


def now_micro() -> str:
    """This microsecond, as in an event's ``eventTime``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def in_seconds(seconds: float) -> str:
    return written(datetime.now(UTC) + timedelta(seconds=seconds))


def written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
