"""What is remembered and counted: all events, all executions and their logs, the numbers, the description."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import quote

from hodei.client.shapes import Event, Execution, LogEntry, LogSelection, Shape
from hodei.client.transport import Transport

EVENTS = "/api/v1/events"
EXECUTIONS = "/api/v1/executions"
PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Summary(Shape):
    """The platform in numbers, now; jobs that have ended are those that were created in the last day."""

    jobs: dict[str, int] = field(default_factory=dict)
    oldest_s: dict[str, float] = field(default_factory=dict)
    queue: dict[str, Any] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    sagas: dict[str, int] = field(default_factory=dict)
    outbox: dict[str, Any] = field(default_factory=dict)
    cleanup: dict[str, int] = field(default_factory=dict)


class RecordCalls:
    """A part of :class:`hodei.client.client.HodeiClient`."""

    def _service(self, name: str) -> Transport:
        raise NotImplementedError(name)

    def all_events(self, *, limit: int | None = None, **filters: Any) -> Iterator[Event]:
        """Everybody's events, oldest first; ``event_type``, ``aggregate_id``, ``correlation_id``, ``actor``, ``since``, ``until``
        and ``text`` narrow them."""
        pages = self._service("orchestrator").pages(EVENTS, limit=min(limit or PAGE, PAGE), **filters)
        return (Event.from_json(item) for item in islice(pages, limit))

    def summary(self) -> Summary:
        return Summary.from_json(self._service("orchestrator").get("/api/v1/metrics"))

    def all_executions(self, *, limit: int | None = None, **filters: Any) -> Iterator[Execution]:
        """Everybody's executions, newest first; ``job_id``, ``worker_id``, ``status``, ``since``, ``until`` and ``text`` narrow
        them."""
        pages = self._service("worker_manager").pages(EXECUTIONS, limit=min(limit or PAGE, PAGE), **filters)
        return (Execution.from_json(item) for item in islice(pages, limit))

    def execution_log(
        self, execution_id: str, *, after: int = 0, limit: int = 1000, selection: LogSelection | None = None
    ) -> list[LogEntry]:
        """Entries of one execution's log, those after ``after``."""
        given: dict[str, Any] = (selection or LogSelection()).parameters()
        path = f"{EXECUTIONS}/{quote(execution_id, safe='')}/logs"
        answer = self._service("worker_manager").get(path, after=after, limit=limit, **given)
        return [LogEntry.from_json(item) for item in answer]

    def metrics(self, service: str = "orchestrator") -> str:
        """A service's metrics, in the words of Prometheus."""
        return self._service(service).send("GET", "/metrics").text

    def description(self, service: str = "orchestrator") -> dict[str, Any]:
        """A service's OpenAPI document."""
        return self._service(service).get("/openapi.json")
