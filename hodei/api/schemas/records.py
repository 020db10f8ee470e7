"""What is remembered: events, sagas, executions."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field, RootModel

from hodei.api.schemas.common import Failure, FilterQuery, LogTotals, Out, Text, Time
from hodei.domain.states import ExecutionState, SagaState, StepState
from hodei.services.filters import EventFilter, ExecutionFilter, SagaFilter

SagaTypeName = Literal["PROVISIONING", "EXECUTION", "RECOVERY", "CANCELLATION", "TIMEOUT", "CLEANUP"]


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


class EventsQuery(FilterQuery):
    """Which events. The text is looked for in type and payload; the times are of `occurred_at`."""

    event_type: Text | None = Field(
        None, min_length=1, max_length=100, json_schema_extra={"example": "JobStatusChanged"}
    )
    aggregate_id: UUID | None = None
    correlation_id: UUID | None = None
    actor: Text | None = Field(None, min_length=1, max_length=100, json_schema_extra={"example": "operator"})

    def wanted(self) -> EventFilter:
        """The same for the use case."""
        return EventFilter(**self.model_dump(exclude={"limit", "cursor"}))


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


class SagasQuery(FilterQuery):
    """Which sagas. The text is looked for in error and metadata; the times are of `started_at`."""

    state: SagaState | None = None
    type: SagaTypeName | None = Field(None, json_schema_extra={"example": "EXECUTION"})
    job_id: UUID | None = None

    def wanted(self) -> SagaFilter:
        """The same for the use case."""
        return SagaFilter(
            since=self.since,
            until=self.until,
            text=self.text,
            state=None if self.state is None else str(self.state),
            saga_type=self.type,
            job_id=self.job_id,
        )


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


class ExecutionBegun(Out):
    """What was begun: its id is the execution's."""

    id: UUID
    job_id: UUID
    command: str | None
    status: ExecutionState
    started_at: Time | None


class ExecutionList(RootModel[list[Execution]]):
    """Executions, in the order of their times."""


class ExecutionsQuery(FilterQuery):
    """Which executions. The text is looked for in command and error; the times are of `created_at`."""

    job_id: UUID | None = None
    worker_id: UUID | None = None
    status: list[ExecutionState] | None = Field(None, description="Any of these.")

    def wanted(self) -> ExecutionFilter:
        """The same for the use case."""
        return ExecutionFilter(
            since=self.since,
            until=self.until,
            text=self.text,
            job_id=self.job_id,
            worker_id=self.worker_id,
            status=[str(status) for status in self.status] if self.status else None,
        )
