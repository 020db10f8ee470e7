"""What lists can be narrowed by. None: everything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Filter:
    """By time, ``since`` (with it) to ``until`` (without), and by a text that is somewhere in the words of a row, in any case."""

    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobFilter(Filter):
    """``status``: any of these; ``label``: all of these; ``provider``: the one asked for; ``text``: in name, command, error."""

    status: list[str] | None = None
    label: dict[str, str] | None = None
    name: str | None = None
    provider: str | None = None
    pipeline_id: UUID | None = None
    schedule_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class EventFilter(Filter):
    """``text``: in type and payload."""

    event_type: str | None = None
    aggregate_id: UUID | None = None
    correlation_id: UUID | None = None
    actor: str | None = None


@dataclass(frozen=True, kw_only=True)
class SagaFilter(Filter):
    """``text``: in error and metadata."""

    state: str | None = None
    saga_type: str | None = None
    job_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutionFilter(Filter):
    """``status``: any of these; ``text``: in command and error."""

    job_id: UUID | None = None
    worker_id: UUID | None = None
    status: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerFilter(Filter):
    """``state``: any of these; ``provider``: a name or type; ``text``: in type, resource and the reason of its end."""

    state: list[str] | None = None
    provider: str | None = None
    worker_type: str | None = None
