"""What is remembered: events, sagas, executions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field, RootModel

from hodei.api.schemas.common import Failure, LogTotals, Out, PageQuery, Text, Time
from hodei.domain.states import ExecutionState, SagaState, StepState


class Event(Out):
    """Something that happened."""

    id: UUID | int | str
    occurred_at: Time
    event_type: str = Field(examples=["JobCreated"])
    aggregate_type: str | None
    aggregate_id: UUID | str
    correlation_id: UUID | str | None
    actor: str | None
    payload: dict[str, Any]


class EventList(RootModel[list[Event]]):
    """Events, oldest first."""


class EventsQuery(PageQuery):
    """Which events."""

    event_type: Text | None = Field(
        None, min_length=1, max_length=100, json_schema_extra={"example": "JobStatusChanged"}
    )
    aggregate_id: UUID | None = None
    correlation_id: UUID | None = None


class SagaStep(Out):
    """A step of a saga."""

    step_name: str
    step_order: int
    state: StepState
    retry_count: int
    output_data: Any
    error_message: str | None
    started_at: Time | None
    completed_at: Time | None


class SagaAudit(Out):
    """An entry of a saga's audit trail."""

    event_type: str
    step_name: str | None
    message: str | None
    payload: Any
    occurred_at: Time


class Saga(Out):
    """A saga with its steps."""

    id: UUID
    saga_type: str = Field(examples=["PROVISIONING"])
    state: SagaState
    status: str
    correlation_id: UUID | str | None
    actor: str | None
    error_message: str | None
    metadata: dict[str, Any]
    started_at: Time | None
    completed_at: Time | None
    steps: list[SagaStep]


class SagaInFull(Saga):
    """A saga with its steps and its audit trail."""

    audit: list[SagaAudit]


class SagaList(RootModel[list[Saga]]):
    """Sagas, newest first."""


class SagasInFull(RootModel[list[SagaInFull]]):
    """Sagas with their audit trails, oldest first."""


class SagasQuery(PageQuery):
    """Which sagas."""

    state: SagaState | None = None
    type: Text | None = Field(None, min_length=1, max_length=50, json_schema_extra={"example": "EXECUTION"})
    job_id: UUID | None = None


class Execution(Out):
    """One attempt of a job."""

    id: UUID
    job_id: UUID
    command: str | None
    attempt: int
    worker_id: UUID | None
    provider_type: str | None
    status: ExecutionState
    exit_code: int | None
    signal: int | None
    error: Failure | None
    created_at: Time
    accepted_at: Time | None
    started_at: Time | None
    completed_at: Time | None
    log: LogTotals


class ExecutionList(RootModel[list[Execution]]):
    """Executions, in the order of their times."""


class ExecutionsQuery(PageQuery):
    """Which executions."""

    job_id: UUID | None = None
    status: ExecutionState | None = None
