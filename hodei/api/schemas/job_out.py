"""A job and what is known of it, as answers show them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, RootModel

from hodei.api.schemas.common import (
    Failure,
    FilterQuery,
    LogTotals,
    Out,
    PageQuery,
    Query,
    Text,
    Time,
)
from hodei.services.filters import JobFilter


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
    required_labels: dict[str, str]
    cpu: float | None
    memory: int | None
    timeout_s: float | None
    grace_s: float
    retries: int
    retry_on: list[int]
    priority: int
    labels: dict[str, str]
    pipeline_id: UUID | None
    pipeline_run_id: UUID | None
    pipeline_node: str | None = Field(description="Its node in that run.")
    schedule_id: UUID | None
    scheduled_for: Time | None = Field(
        description="The time that a schedule named for it; null: not fired by one."
    )
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
    outputs: dict[str, str] = Field(description="What it wrote to $HODEI_OUTPUT.")
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

    wait: float | None = Field(
        None, ge=0, le=300, description="Answer when the job ends, at the latest after so many seconds."
    )


def _label(value: str) -> str:
    key, separator, _ = value.partition("=")
    if not separator or not key:
        raise ValueError("label is KEY=VALUE, such as label=team=data.")
    return value


Label = Annotated[
    str,
    AfterValidator(_label),
    Field(max_length=400, json_schema_extra={"pattern": r"^[^=\u0000]+=[^\u0000]*$"}),
]


class QueueQuery(PageQuery):
    """Which of the jobs that wait."""

    label: list[Label] | None = Field(None, description="All of these, each KEY=VALUE.")
    provider: Text | None = Field(
        None, min_length=1, max_length=253, description="The provider that was asked for, or `auto`."
    )
    text: Text | None = Field(
        None, min_length=1, max_length=200, description="Only what holds this text, in any case."
    )

    def wanted(self) -> JobFilter:
        """The same for the use case."""
        return JobFilter(label=_labels(self.label), provider=self.provider, text=self.text)


class JobsQuery(FilterQuery):
    """Which jobs. The text is looked for in name, command and error; the times are of `created_at`."""

    status: list[JobStatus] | None = Field(None, description="Any of these.")
    label: list[Label] | None = Field(None, description="All of these, each KEY=VALUE.")
    name: Text | None = Field(None, min_length=1, max_length=255)
    provider: Text | None = Field(
        None, min_length=1, max_length=253, description="The provider that was asked for, or `auto`."
    )
    pipeline_id: UUID | None = None
    schedule_id: UUID | None = None

    def wanted(self) -> JobFilter:
        """The same for the use case."""
        return JobFilter(
            since=self.since,
            until=self.until,
            text=self.text,
            status=[str(status) for status in self.status] if self.status else None,
            label=_labels(self.label),
            name=self.name,
            provider=self.provider,
            pipeline_id=self.pipeline_id,
            schedule_id=self.schedule_id,
        )


def _labels(given: list[str] | None) -> dict[str, str] | None:
    return dict(item.split("=", 1) for item in given) if given else None


class Why(Out):
    """Why a job is where it is, in words."""

    job_id: UUID
    status: JobStatus
    summary: str
    details: list[str]
    since: Time | None
    queue_position: int | None


class QueueSummary(Out):
    """What waits for a worker."""

    depth: int
    oldest: Time | None


class OutboxSummary(Out):
    """Events that wait for the broker."""

    pending: int
    oldest_s: float | None


class Summary(Out):
    """The platform in numbers, now; jobs that have ended are those that were created in the last day."""

    jobs: dict[str, int] = Field(description="By status.", examples=[{"running": 2, "succeeded": 40}])
    oldest_s: dict[str, float] = Field(description="How long the oldest is in each status.")
    queue: QueueSummary
    workers: dict[str, int] = Field(description="By state, those that live.", examples=[{"busy": 2}])
    sagas: dict[str, int] = Field(description="By state, those that have not ended.")
    outbox: OutboxSummary
    cleanup: dict[str, int] = Field(description="What sweeps found and removed, ever.")
