"""Imports redis-py without the OpenTelemetry SDK, which it would import wherever that is installed.

It is for metrics of its own that nobody asks for: 3 MB and a part of the start of every process, while traces are off.
"""

from __future__ import annotations

import sys
from typing import Any


def import_redis() -> None:
    """Import it, once and for all; what is imported already is left as it is."""
    if "redis" in sys.modules or "opentelemetry" in sys.modules:
        return
    loaded: dict[str, Any] = sys.modules
    loaded["opentelemetry"] = None  # to redis-py: not installed
    try:
        import redis  # noqa: F401
    finally:
        del loaded["opentelemetry"]


import_redis()
