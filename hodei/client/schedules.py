"""Schedules, as the scheduler offers them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as initial
from itertools import islice
from typing import Any
from urllib.parse import quote

from hodei.client.shapes import Shape
from hodei.client.transport import Transport

SCHEDULE = "/api/v1/schedule"
SCHEDULED = "/api/v1/scheduled"
PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Schedule(Shape):
    id: str
    name: str = ""
    job_id: str = ""
    status: str = ""
    reason: str | None = None
    description: str = ""
    command: str | None = None
    cron: str | None = None
    schedule_time: str | None = None
    timezone: str = "UTC"
    overlap: str = ""
    catch_up: str = ""
    catch_up_limit: int = 0
    jitter_s: float = 0.0
    start_at: str | None = None
    end_at: str | None = None
    pause_after_failures: int | None = None
    failures: int = 0
    next_at: str | None = None
    last_at: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Firing(Shape):
    """What one of a schedule's times came to: ``fired``, ``waiting`` or ``skipped`` (with a ``reason``)."""

    schedule_id: str = ""
    scheduled_for: str = ""
    kind: str = ""
    outcome: str = ""
    reason: str | None = None
    job_id: str | None = None
    job_status: str | None = None
    created_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class UpcomingTime(Shape):
    """A time that a schedule names, in UTC and as a clock in its zone shows it."""

    scheduled_for: str = ""
    local: str = ""


@dataclass(frozen=True, kw_only=True)
class Validated(Shape):
    """Whether times would do, in words, and the first of them."""

    valid: bool = False
    message: str = ""
    field: str | None = None
    upcoming: list[UpcomingTime] = initial(default_factory=list)

    @classmethod
    def nested(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values | {"upcoming": [UpcomingTime.from_json(item) for item in values.get("upcoming") or []]}


class ScheduleCalls:
    """The part of :class:`hodei.client.client.HodeiClient` that is about schedules."""

    def _service(self, name: str) -> Transport:
        raise NotImplementedError

    def create_schedule(self, schedule: Mapping[str, Any], *, idempotency_key: str | None = None) -> Schedule:
        """Has a job's definition run at certain times. Without a key one is made."""
        key = idempotency_key or str(uuid.uuid4())
        answer = self._service("scheduler").post(SCHEDULE, dict(schedule), idempotency_key=key)
        return Schedule.from_json(answer)

    def validate_schedule(self, times: Mapping[str, Any]) -> Validated:
        """Says in words whether these times would do; nothing is stored."""
        response = self._service("scheduler").send("POST", f"{SCHEDULE}/validate", body=dict(times))
        return Validated.from_json(response.json())

    def schedules(self, *, limit: int | None = None, **filters: str | None) -> Iterator[Schedule]:
        """Schedules, newest first, page after page; ``status`` and ``job_id`` narrow them. No limit: all."""
        pages = self._service("scheduler").pages(SCHEDULED, limit=min(limit or PAGE, PAGE), **filters)
        return (Schedule.from_json(item) for item in islice(pages, limit))

    def schedule(self, schedule_id: str) -> Schedule:
        return Schedule.from_json(self._service("scheduler").get(_schedule(schedule_id)))

    def change_schedule(self, schedule_id: str, changes: Mapping[str, Any]) -> Schedule:
        """Changes what is named; ``{"status": "paused"}`` and ``{"status": "scheduled"}`` pause and resume."""
        response = self._service("scheduler").send("PATCH", _schedule(schedule_id), body=dict(changes))
        return Schedule.from_json(response.json())

    def delete_schedule(self, schedule_id: str) -> None:
        """Deletes it; the jobs that it made stay."""
        self._service("scheduler").send("DELETE", _schedule(schedule_id))

    def trigger_schedule(self, schedule_id: str, *, idempotency_key: str | None = None) -> Firing:
        """Fires it now, as its overlap allows. Without a key one is made, so that a repeated request fires once."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        path = f"{_schedule(schedule_id)}/trigger"
        return Firing.from_json(self._service("scheduler").send("POST", path, headers=headers).json())

    def upcoming(self, schedule_id: str, *, count: int = 10) -> list[UpcomingTime]:
        """The next times that it names, also while it is paused."""
        answer = self._service("scheduler").get(f"{_schedule(schedule_id)}/upcoming", count=count)
        return [UpcomingTime.from_json(item) for item in answer]

    def firings(self, schedule_id: str, *, limit: int | None = None) -> Iterator[Firing]:
        """What its times came to, the latest first, page after page. No limit: all."""
        path = f"{_schedule(schedule_id)}/firings"
        pages = self._service("scheduler").pages(path, limit=min(limit or PAGE, PAGE))
        return (Firing.from_json(item) for item in islice(pages, limit))


def _schedule(schedule_id: str) -> str:
    return f"{SCHEDULED}/{quote(schedule_id, safe='')}"
