"""Pipelines and their runs as they are shown."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import Field, RootModel

from hodei.api.schemas.common import Failure, Out, Time
from hodei.api.schemas.job_out import TimeoutsOut
from hodei.api.schemas.pipelines_in import PipelineStatus, RunStatus
from hodei.domain.pipeline import When


class PipelineJob(Out):
    """A job of a pipeline. Secrets show by name only."""

    key: str
    needs: list[str]
    when: When
    matrix: dict[str, Any] | None
    name: str | None
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
    timeouts: TimeoutsOut


class Param(Out):
    """What a run may be given."""

    default: str | None
    required: bool
    description: str


class PipelineLinks(Out):
    """Where more is to be found."""

    self: str
    runs: str
    jobs: str


class PipelineSummary(Out):
    """A pipeline without its jobs."""

    id: UUID
    name: str
    description: str
    status: PipelineStatus
    created_at: Time
    updated_at: Time
    version: int = Field(description="Higher by one with each change of its jobs, params or max_parallel.")
    job_count: int | None = Field(description="How many jobs it has; null: the plain form.")
    links: PipelineLinks


class Pipeline(PipelineSummary):
    """A pipeline."""

    params: dict[str, Param]
    max_parallel: int | None
    jobs: list[PipelineJob] | None = Field(description="null: the plain form.")


class PipelineList(RootModel[list[PipelineSummary]]):
    """Pipelines, newest first, without their jobs."""


class NodeStatus(StrEnum):
    """Where a node is. From pending to running it is what its job is."""

    WAITING = "waiting"
    READY = "ready"
    PENDING = "pending"
    SCHEDULED = "scheduled"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    SUBMITTED = "submitted"


class Node(Out):
    """One job of a run: a job of the pipeline, or one combination of its matrix."""

    key: str = Field(examples=["test[os=a]"])
    job_key: str
    needs: list[str] = Field(description="The jobs that it needs.")
    when: When
    matrix: dict[str, str]
    status: NodeStatus
    job_id: UUID | None = Field(description="null as long as it was not started.")
    try_: int = Field(alias="try", description="1, and one more with each time the run was resumed for it.")
    attempts: int
    exit_code: int | None
    outputs: dict[str, str] = Field(description="What its job wrote to $HODEI_OUTPUT.")
    reason: str | None = Field(description="Why it was skipped, has failed, or wrote no outputs.")
    error: Failure | None
    started_at: Time | None
    ended_at: Time | None


class Counts(Out):
    """How many nodes are in which state; submitted: their jobs are in the queue or going."""

    waiting: int
    ready: int
    submitted: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int


class RunLinks(Out):
    """Where more is to be found."""

    self: str
    pipeline: str
    follow: str
    jobs: str


class PipelineRun(Out):
    """A run of a pipeline."""

    id: UUID
    pipeline_id: UUID
    pipeline_name: str
    number: int = Field(description="1, 2, 3 … of the pipeline.")
    version: int = Field(description="Of the pipeline, when the run began.")
    status: RunStatus
    params: dict[str, str]
    counts: Counts
    resumed: int = Field(description="How often it was resumed.")
    cancel_requested_at: Time | None
    created_at: Time
    completed_at: Time | None
    links: RunLinks


class WholeRun(PipelineRun):
    """A run of a pipeline, with its nodes."""

    nodes: list[Node]


class PipelineRunList(RootModel[list[PipelineRun]]):
    """Runs, newest first, without their nodes."""
