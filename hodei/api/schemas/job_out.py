"""A job and what is known of it, as answers show them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, RootModel

from hodei.api.schemas.common import (
    Failure,
    LogTotals,
    Out,
    PageQuery,
    Query,
    QueryInt,
    QuerySeconds,
    Text,
    Time,
)


class JobStatus(StrEnum):
    """A job's state in lower case."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class TimeoutsOut(Out):
    """How long each part of the job's life may take, in seconds."""

    queue_s: float
    provision_s: float
    start_s: float
    idle_s: float | None
    cancel_s: float


class JobLinks(Out):
    """Where more is to be found."""

    self: str
    logs: str
    events: str
    sagas: str
    executions: str
    why: str


class Job(Out):
    """A job. Secrets show by name only."""

    id: UUID
    name: str
    command: str | None
    script: str | None
    args: list[str] | None
    image: str | None
    env: dict[str, str]
    secret_env: list[str]
    provider: str
    cpu: float | None
    memory: int | None
    timeout_s: float | None
    grace_s: float
    retries: int
    retry_on: list[int]
    priority: int
    labels: dict[str, str]
    pipeline_id: UUID | None
    timeouts: TimeoutsOut
    status: JobStatus
    status_code: int = Field(ge=0, le=7)
    held: bool
    attempts: int
    max_attempts: int
    provider_id: UUID | None
    provider_type: str | None
    worker_id: UUID | None
    exit_code: int | None
    error: Failure | None
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    cancel_requested_at: Time | None
    queue_position: int | None
    log: LogTotals
    links: JobLinks


class JobList(RootModel[list[Job]]):
    """Jobs, newest first."""


class JobQuery(Query):
    """Whether to wait for the job's end."""

    wait: QuerySeconds | None = Field(
        None, ge=0, le=300, description="Answer when the job ends, at the latest after so many seconds."
    )


class JobsQuery(PageQuery):
    """Which jobs."""

    status: list[JobStatus] | None = Field(None, description="Any of these.")
    label: list[str] | None = Field(
        None,
        description="All of these, each KEY=VALUE.",
        json_schema_extra={"items": {"type": "string", "pattern": "^[^=]+=.*$"}},
    )
    name: Text | None = Field(None, min_length=1, max_length=255)
    pipeline_id: UUID | None = None


class Why(Out):
    """Why a job is where it is, in words."""

    job_id: UUID
    status: JobStatus
    summary: str
    details: list[str]
    since: Time | None
    queue_position: int | None


class LogEntry(Out):
    """A line that a job wrote; ``partial``: it goes on in the stream's next entry."""

    seq: int
    attempt: int
    stream: Literal["stdout", "stderr"]
    at: Time
    text: str


class LogEntries(RootModel[list[LogEntry]]):
    """Log entries in order."""


class LogQuery(Query):
    """Which part of a log."""

    attempt: QueryInt | None = Field(None, ge=1, le=2**31 - 1, description="Without it, the last one.")
    after: QueryInt = Field(0, ge=0, le=2**62, description="Only entries with a higher seq.")
    limit: QueryInt = Field(1000, ge=1, le=10_000)
    wait_s: QuerySeconds = Field(
        0.0, ge=0, le=60, description="Wait so long for an entry when there is none yet."
    )
    stream: Literal["stdout", "stderr"] | None = Field(None, description="Only this stream; for text/plain.")


class ExecutionLogQuery(Query):
    """Which part of an execution's log."""

    after: QueryInt = Field(0, ge=0, le=2**62, description="Only entries with a higher seq.")
    limit: QueryInt = Field(1000, ge=1, le=10_000)
    wait_s: QuerySeconds = Field(
        0.0, ge=0, le=60, description="Wait so long for an entry when there is none yet."
    )
    stream: Literal["stdout", "stderr"] | None = Field(None, description="Only this stream; for text/plain.")


class Summary(Out):
    """The platform in numbers."""

    jobs: dict[str, Any]
