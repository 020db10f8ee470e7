"""Where jobs run: providers, workers; and whether the platform is well."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field, RootModel

from hodei.api.schemas.common import Out, PageQuery, Text, Time
from hodei.domain.states import ProviderStatus, WorkerState


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
    capabilities: dict[str, Any]
    checked_at: Time | None
    created_at: Time
    updated_at: Time


class ProviderList(RootModel[list[Provider]]):
    """Providers, by priority."""


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


class WorkersQuery(PageQuery):
    """Which workers."""

    state: list[WorkerState] | None = Field(None, description="Any of these.")
    provider: Text | None = Field(
        None, min_length=1, max_length=253, description="A provider's name or type."
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
