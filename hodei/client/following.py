"""Waiting for a job and following its log, across retried attempts and a server that restarts or is another one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from hodei.client.errors import NotHodei, ServerUnreachable
from hodei.client.shapes import Job, LogAttempt, LogEnd, LogEntry

PATIENCE_S = 60.0
WAIT_S = 30.0
LOOK_AGAIN_S = 0.5

Answer = TypeVar("Answer")

_KINDS: dict[str, type[LogEntry] | type[LogAttempt] | type[LogEnd]] = {
    "message": LogEntry,
    "attempt": LogAttempt,
    "end": LogEnd,
}


def wait(ask: Callable[[], Job], *, patience_s: float) -> Job:
    """The job when it has ended. ServerUnreachable when nobody answered for ``patience_s``."""
    while True:
        asked_at = time.monotonic()
        job = patiently(ask, patience_s=patience_s)
        if job.has_ended:
            return job
        not_faster(asked_at)


def follow_log(
    open_stream: Callable[[str | None], AbstractContextManager[Iterator[bytes]]],
    *,
    place: str | None,
    idle: Callable[[], None],
    patience_s: float,
) -> Iterator[LogEntry | LogAttempt | LogEnd]:
    """What a log's stream of events tells, until its end, over however many connections that takes.

    ``open_stream`` opens it after a place (an event's id; None: where the server begins). When it breaks or ends before
    its ``end`` event, it is opened again after the last event: nothing is lost, and nothing comes twice. Raises
    ServerUnreachable when nothing was heard for ``patience_s``.
    """
    failing_since: float | None = None
    while True:
        asked_at = time.monotonic()
        try:
            with open_stream(place) as blocks:
                for event in events_in(blocks, idle):
                    failing_since = None
                    place = event.place or place
                    if event.data is None:
                        continue
                    said = _shape(event)
                    if said is not None:
                        yield said
                    if isinstance(said, LogEnd):
                        return
        except ServerUnreachable:
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since >= patience_s:
                raise
        not_faster(asked_at)


def _shape(event: StreamEvent) -> LogEntry | LogAttempt | LogEnd | None:
    """What the event is; None for one of a newer server."""
    kind = _KINDS.get(event.name)
    try:
        return None if kind is None else kind.from_json(json.loads(event.data or ""))
    except (ValueError, TypeError, AttributeError) as error:
        raise NotHodei("What answers is not Hodei Jobs: its events are not what a log has.") from error


@dataclass(frozen=True)
class StreamEvent:
    """A Server-Sent Event. ``data`` None: it only says where the stream is, or that it is alive."""

    name: str
    place: str | None
    data: str | None


def events_in(blocks: Iterable[bytes], idle: Callable[[], None]) -> Iterator[StreamEvent]:
    """The events of a stream, each when its last line is there; what is cut off at the end is left out.

    ``idle`` is called before the next bytes are waited for.
    """
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n\n")
        for text in whole:
            yield _event(text)
        idle()


def _event(text: bytes) -> StreamEvent:
    name, place, data = "message", None, list[str]()
    for line in text.decode().split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "id":
            place = value
        elif field == "data":
            data.append(value)
    return StreamEvent(name, place, "\n".join(data) if data else None)


def patiently(ask: Callable[[], Answer], *, patience_s: float) -> Answer:
    """Asks again while the server is away, for ``patience_s`` since the first failure."""
    first_failure_at: float | None = None
    while True:
        try:
            return ask()
        except ServerUnreachable:
            now = time.monotonic()
            first_failure_at = first_failure_at or now
            if now - first_failure_at >= patience_s:
                raise
            time.sleep(min(1.0, patience_s))


def not_faster(asked_at: float) -> None:
    """Rests: a server that does not hold its answers back is not asked more than twice a second."""
    time.sleep(max(0.0, LOOK_AGAIN_S - (time.monotonic() - asked_at)))
