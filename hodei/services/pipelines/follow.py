"""A run as Server-Sent Events: all that there is, then what changes, until its end.

Nothing is kept for a follower but what it was told: whoever opens the stream again, of any server, is told what is true then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hodei.domain.pipeline import RunState
from hodei.errors import DatabaseUnavailable, NotFound
from hodei.ports import Platform
from hodei.services.pipelines.read import get_run

LOOK_EVERY_S = 1.0
"""What its jobs do wakes no follower: it is looked at so often, and a large run less often, by as much as a look costs more."""
NODES_A_LOOK = 1000
KEEP_ALIVE_S = 15.0
GREETING = b"retry: 500\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def begin(platform: Platform, run_id: UUID) -> dict[str, Any]:
    """What is told first. Raises NotFound, before the stream begins."""
    return get_run(platform, run_id)


def follow(platform: Platform, run_id: UUID, first: dict[str, Any]) -> Iterator[bytes]:
    """The events. Ends after ``end``, or without it when the process stops: then go on elsewhere. Holds no connection."""
    told: dict[str, str] = {}
    quiet_s, look_s = 0.0, LOOK_EVERY_S
    yield GREETING
    with platform.wakeups.listen(f"run:{run_id}") as ear:
        run: dict[str, Any] | None = first
        while not platform.wakeups.closing:
            news = [] if run is None else _news(run, told)
            yield from news
            if run is not None and run["status"] != RunState.RUNNING.value.lower():
                yield _event("end", {name: value for name, value in run.items() if name != "nodes"})
                return
            if run is not None:
                look_s = LOOK_EVERY_S * max(1.0, len(run["nodes"]) / NODES_A_LOOK)
            quiet_s = 0.0 if news else quiet_s + look_s
            if quiet_s >= KEEP_ALIVE_S:
                quiet_s = 0.0
                yield KEEP_ALIVE
            ear.wait(look_s)
            try:
                run = get_run(platform, run_id)
            except DatabaseUnavailable:  # what is told is not lost: it is told when it can be read
                run = None
            except NotFound:  # it ended, and was deleted at once
                return


def _news(run: dict[str, Any], told: dict[str, str]) -> list[bytes]:
    """What is different from what was told."""
    parts = [("run", "", {name: value for name, value in run.items() if name != "nodes"})]
    parts += [("node", node["key"], node) for node in run["nodes"]]
    news = []
    for name, key, document in parts:
        text = json.dumps(document, default=_plain, separators=(",", ":"))
        if told.get(key) != text:
            told[key] = text
            news.append(f"event: {name}\ndata: {text}\n\n".encode())
    return news


def _event(name: str, document: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(document, default=_plain, separators=(',', ':'))}\n\n".encode()


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return str(value)
