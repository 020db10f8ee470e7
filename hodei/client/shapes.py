"""The answers of the services (``docs/reference/http.md``) as frozen dataclasses.

Each is read with ``from_json``: fields that this version does not know are ignored, and fields that an older
server does not send have their defaults. ``document`` is the JSON object as it came.
"""

from __future__ import annotations

import base64
import builtins
from dataclasses import dataclass, field, fields
from typing import Any, Self

JOB_ENDS = frozenset({"succeeded", "failed", "cancelled", "timeout"})


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What every answer has."""

    document: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        names = {item.name for item in fields(cls)} - {"document"}
        known = {name: document[name] for name in names & document.keys()}
        return cls(**cls.nested(known), document=document)

    @classmethod
    def nested(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Turns inner objects into their own shapes."""
        return values


@dataclass(frozen=True, kw_only=True)
class Cause(Shape):
    """Why an attempt ended badly."""

    code: str = ""
    severity: str = ""
    message: str = ""
    actions: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class LogSummary(Shape):
    entries: int = 0
    bytes: int = 0
    complete: bool = False


@dataclass(frozen=True, kw_only=True)
class Job(Shape):
    id: str
    name: str = ""
    command: str | None = None
    script: str | None = None
    image: str | None = None
    provider: str = "auto"
    required_labels: dict[str, str] = field(default_factory=dict)
    priority: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    status: str = "pending"
    status_code: int | None = None
    held: bool = False
    schedule_id: str | None = None
    attempts: int = 0
    max_attempts: int = 1
    provider_id: str | None = None
    provider_type: str | None = None
    worker_id: str | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    error: Cause | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    cancel_requested_at: str | None = None
    queue_position: int | None = None
    log: LogSummary = field(default_factory=LogSummary)

    @classmethod
    def nested(cls, values: dict[str, Any]) -> dict[str, Any]:
        cause, log = values.get("error"), values.get("log")
        return values | {
            "error": Cause.from_json(cause) if cause else None,
            "log": LogSummary.from_json(log or {}),
        }

    @property
    def has_ended(self) -> bool:
        return self.status in JOB_ENDS


@dataclass(frozen=True, kw_only=True)
class Event(Shape):
    id: str = ""
    occurred_at: str | None = None
    event_type: str = ""
    aggregate_type: str = ""
    aggregate_id: str = ""
    correlation_id: str | None = None
    actor: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SagaStep(Shape):
    step_name: str = ""
    step_order: int = 0
    state: str = ""
    retry_count: int = 0
    output_data: dict[str, Any] | None = None
    error_message: str | None = None
    started_at: str | None = None
    completed_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class SagaAudit(Shape):
    event_type: str = ""
    step_name: str | None = None
    message: str | None = None
    payload: dict[str, Any] | None = None
    occurred_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Saga(Shape):
    id: str
    saga_type: str = ""
    state: str = ""
    status: str = ""
    correlation_id: str | None = None
    actor: str | None = None
    error_message: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    started_at: str | None = None
    completed_at: str | None = None
    steps: list[SagaStep] = field(default_factory=list)
    audit: list[SagaAudit] = field(default_factory=list)

    @classmethod
    def nested(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values | {
            "steps": [SagaStep.from_json(item) for item in values.get("steps") or []],
            "audit": [SagaAudit.from_json(item) for item in values.get("audit") or []],
        }


@dataclass(frozen=True, kw_only=True)
class Execution(Shape):
    id: str
    job_id: str = ""
    command: str | None = None
    attempt: int = 0
    worker_id: str | None = None
    provider_type: str | None = None
    status: str = ""
    exit_code: int | None = None
    signal: int | str | None = None
    error: Cause | None = None
    created_at: str | None = None
    accepted_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    log: LogSummary = field(default_factory=LogSummary)

    @classmethod
    def nested(cls, values: dict[str, Any]) -> dict[str, Any]:
        return Job.nested(values)


@dataclass(frozen=True, kw_only=True)
class Why(Shape):
    """In words: why a job is where it is."""

    job_id: str = ""
    status: str = ""
    summary: str = ""
    details: list[str] = field(default_factory=list)
    since: str | None = None
    queue_position: int | None = None


@dataclass(frozen=True, kw_only=True)
class Provider(Shape):
    id: str
    name: str = ""
    type: str = ""
    status: str = ""
    status_reason: str | None = None
    priority: int | None = None
    max_workers: int | None = None
    workers: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    checked_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProviderHealth(Shape):
    id: str
    name: str = ""
    type: str = ""
    ok: bool = False
    status: str = ""
    message: str = ""
    checks: dict[str, str] = field(default_factory=dict)
    checked_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Worker(Shape):
    id: str
    type: str = ""
    provider_id: str | None = None
    provider_type: str | None = None
    provider_resource_id: str | None = None
    state: str = ""
    status: str = ""
    current_job_id: str | None = None
    job_id: str | None = None
    last_heartbeat: str | None = None
    usage: dict[str, Any] | None = None
    created_at: str | None = None
    terminated_at: str | None = None
    termination_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class LogEntry(Shape):
    """A line of a job's output; ``partial`` when the stream's next entry goes on with it."""

    seq: int
    attempt: int = 1
    stream: str = "stdout"
    at: str | None = None
    text: str = ""
    partial: bool = False
    bytes: str | None = None

    @property
    def exact(self) -> builtins.bytes:
        """What the job wrote, without the newline: also what is no UTF-8, which the text shows as U+FFFD."""
        return self.text.encode() if self.bytes is None else base64.b64decode(self.bytes)


@dataclass(frozen=True, kw_only=True)
class LogSelection:
    """Which entries are wanted. ``since``: a time as in RFC 3339, or how long ago (``5m``), by the server's clock."""

    tail: int | None = None
    since: str | None = None
    grep: str | None = None
    ignore_case: bool = False
    stream: str | None = None

    def parameters(self) -> dict[str, str | int]:
        """The same as a query has it."""
        given = {"tail": self.tail, "since": self.since, "grep": self.grep, "stream": self.stream}
        chosen = {name: value for name, value in given.items() if value is not None}
        return chosen | ({"ignore_case": 1} if self.ignore_case else {})


@dataclass(frozen=True, kw_only=True)
class LogAttempt(Shape):
    """From here on it is this attempt's log."""

    attempt: int = 0
    execution_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class LogEnd(Shape):
    """Nothing more comes: how the job ended, and how much was written."""

    status: str = ""
    exit_code: int | None = None
    attempt: int = 0
    execution_status: str | None = None
    log: LogSummary = field(default_factory=LogSummary)

    @classmethod
    def nested(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values | {"log": LogSummary.from_json(values.get("log") or {})}


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """Entries after a place; ``end`` when the attempt's log is over and nothing follows them.

    ``complete`` False: the attempt is over and a part of what it wrote did not arrive.
    """

    entries: list[LogEntry]
    end: bool = False
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class Check(Shape):
    ok: bool = False
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Health(Shape):
    status: str = "down"
    service: str = ""
    version: str = ""
    checks: dict[str, Check] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)

    @classmethod
    def nested(cls, values: dict[str, Any]) -> dict[str, Any]:
        checks = {name: Check.from_json(item) for name, item in (values.get("checks") or {}).items()}
        return values | {"checks": checks, "services": values.get("services") or {}}
