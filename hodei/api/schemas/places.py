"""Where jobs run: providers, workers; and whether the platform is well."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field, RootModel

from hodei.api.schemas.common import FilterQuery, Out, Text, Time
from hodei.domain.states import ProviderStatus, WorkerState
from hodei.services.filters import WorkerFilter


class Provider(Out):
    """A provider and what it can do."""

    id: UUID
    name: str
    type: str = Field(examples=["docker"])
    status: str = Field(
        description="In lower case.", json_schema_extra={"enum": [s.lower() for s in ProviderStatus]}
    )
    status_reason: str | None
    priority: int
    max_workers: int | None
    workers: int
    labels: dict[str, Any]
    config: dict[str, Any] = Field(description="As it was set; what may be secret is hidden.")
    capabilities: dict[str, Any]
    checked_at: Time | None
    created_at: Time
    updated_at: Time


class ProviderList(RootModel[list[Provider]]):
    """Providers, by priority."""


class ProviderLastDay(Out):
    """Jobs and workers that were created in the last day. Times are from a worker's row to its agent's registration."""

    jobs: dict[str, int] = Field(description="By their ends.", examples=[{"succeeded": 3, "failed": 1}])
    causes: dict[str, int] = Field(description="By error code.", examples=[{"ERR_1007": 1}])
    workers_made: int
    workers_connected: int
    start_p50_s: float | None
    start_p95_s: float | None


class ProviderStats(Out):
    """A provider in numbers: now, and over the last day."""

    id: UUID
    name: str
    type: str
    status: str
    max_workers: int
    places_taken: int
    places_free: int
    workers: dict[str, int] = Field(description="By state, those that live.", examples=[{"busy": 2}])
    jobs: dict[str, int] = Field(
        description="By state, those that have not ended; `pending`: those that wait for it by its name."
    )
    last_day: ProviderLastDay


class ProviderHealth(Out):
    """What the provider answered just now."""

    id: UUID
    name: str
    type: str
    ok: bool
    status: str
    message: str | None
    checks: dict[str, Any]
    checked_at: Time | None


class Worker(Out):
    """A worker: ``state`` is the truth, ``status`` a summary of it."""

    id: UUID
    type: str
    provider_id: UUID | None
    provider_type: str | None
    provider_resource_id: str | None
    state: WorkerState
    status: str
    current_job_id: UUID | None
    job_id: UUID | None
    last_heartbeat: Time | None
    usage: dict[str, Any] | None
    created_at: Time
    started_at: Time | None
    updated_at: Time
    terminated_at: Time | None
    termination_reason: str | None


class WorkerList(RootModel[list[Worker]]):
    """Workers, newest first."""


class WorkerStatus(Out):
    """Only how a worker is."""

    id: UUID
    state: WorkerState
    status: Literal["starting", "running", "stopping", "stopped"]
    current_job_id: UUID | None
    last_heartbeat: Time | None


class RegisteredWorker(Worker):
    """A worker in the registry's words: `status` is starting, online or offline."""

    registered_at: Time


class RegisteredWorkerList(RootModel[list[RegisteredWorker]]):
    """Workers in the registry's words, newest first."""


class EnteredWorker(RegisteredWorker):
    """A worker that was just registered, with the token for its agent."""

    token: str | None = Field(
        description="Shown this once: null in the answer to a request that is sent again.",
        examples=["hsw_0196a3c4000070008000000000000001_6gq…"],
    )
    token_expires_at: Time = Field(description="When the agent must have called for the first time.")


class WorkersQuery(FilterQuery):
    """Which workers. The text is looked for in type, resource and the reason of its end; the times are of `created_at`."""

    state: list[WorkerState] | None = Field(None, description="Any of these.")
    provider: Text | None = Field(
        None, min_length=1, max_length=253, description="A provider's name or type."
    )
    type: Text | None = Field(None, min_length=1, max_length=255, description="Such as `rust`.")

    def wanted(self) -> WorkerFilter:
        """The same for the use case."""
        return WorkerFilter(
            since=self.since,
            until=self.until,
            text=self.text,
            state=[str(state) for state in self.state] if self.state else None,
            provider=self.provider,
            worker_type=self.type,
        )


class HealthCheck(Out):
    """One thing that the service needs."""

    ok: bool
    message: str


class Services(Out):
    """Where the three services are."""

    orchestrator: str
    scheduler: str
    worker_manager: str


class Health(Out):
    """Whether the service and what it needs are well."""

    status: Literal["ok", "degraded", "down"]
    service: str
    version: str
    checks: dict[str, HealthCheck]
    services: Services
