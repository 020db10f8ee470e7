"""What people ask of providers, workers and executions."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, WithJsonSchema

from hodei.api.schemas.common import In, Query
from hodei.api.schemas.job_values import Command, Image, Labels, ProviderWord
from hodei.domain.states import ProviderStatus
from hodei.services.provider_admin import NewProvider, ProviderChange
from hodei.services.worker_admin import IDLE_S, NewWorker

LONGEST_WAIT_S = 300.0
WAIT_FOR_A_WORKER_S = 30.0
WAIT_FOR_A_BEGINNING_S = 10.0
RESERVED_NAMES = ("auto", "docker", "kubernetes", "process", "fake", "self-hosted")
"""Each means one thing to those who submit jobs, whichever providers there are."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_PRINTABLE = r"^[^\u0000-\u001f\u007f]*[^\s\u0000-\u001f\u007f][^\u0000-\u001f\u007f]*$"


def _provider_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("name is up to 63 letters, digits and . _ - inside, such as docker-eu.")
    if value in RESERVED_NAMES:
        raise ValueError(f"{value!r} is the platform's own name. Choose another one, such as {value}-2.")
    if _UUID.fullmatch(value):
        raise ValueError("name is in the form of an id. Choose another one.")
    return value


def _printable(value: str) -> str:
    if not value.strip() or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError("is blank or holds control characters")
    return value


_RESERVED = "|".join(RESERVED_NAMES)
ProviderName = Annotated[
    str,
    AfterValidator(_provider_name),
    Field(
        json_schema_extra={
            "pattern": rf"^(?!(?:{_RESERVED})$)(?!{_UUID.pattern}$)[A-Za-z0-9][A-Za-z0-9._-]{{0,62}}$",
            "examples": ["docker-eu"],
        }
    ),
]
Sentence = Annotated[
    str,
    AfterValidator(_printable),
    Field(min_length=1, max_length=255, json_schema_extra={"pattern": _PRINTABLE}),
]
WorkerType = Annotated[
    str,
    AfterValidator(_printable),
    Field(min_length=1, max_length=255, json_schema_extra={"pattern": _PRINTABLE}),
]
Config = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "additionalProperties": True, "examples": [{"pids_limit": 512}]}),
]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
MaxWorkers = Annotated[int, Field(ge=0, le=100_000)]


class ProviderSwitch(StrEnum):
    """What a person may set; the other statuses are what checks find."""

    ACTIVE = "active"
    MAINTENANCE = "maintenance"
    DISABLED = "disabled"


class ProviderIn(In):
    """A provider to be added: one more place where workers are made."""

    name: ProviderName = Field(description="How jobs ask for it.")
    type: Literal["docker", "kubernetes", "process"] = Field(examples=["docker"])
    config: Config = Field(
        {}, description="What the type of provider takes; a key that it does not know is 422."
    )
    priority: Priority = Field(0, description="High first, for jobs that name no provider.")
    max_workers: MaxWorkers = Field(8, description="How many workers there may be at once.")
    labels: Labels = Field({}, description="What jobs may require with `required_labels`.")
    status: ProviderSwitch = Field(
        ProviderSwitch.ACTIVE, description="`active`: used as soon as a check finds it well."
    )
    status_reason: Sentence | None = Field(None, description="Shown to whoever waits for it.")

    def to_new_provider(self) -> NewProvider:
        """What the use case takes."""
        return NewProvider(
            name=self.name,
            provider_type=self.type,
            config=self.config,
            priority=self.priority,
            max_workers=self.max_workers,
            labels=self.labels,
            status=ProviderStatus[self.status.name],
            reason=self.status_reason,
        )


class ProviderPatch(In):
    """What is to be different; what is left out, or null, stays."""

    config: Config | None = Field(None, description="Merged key by key; null as a value removes a key.")
    priority: Priority | None = None
    max_workers: MaxWorkers | None = Field(None, description="Workers above it are not ended.")
    labels: Labels | None = Field(None, description="All of them.")
    status: ProviderSwitch | None = None
    status_reason: Sentence | None = Field(None, description="With `status`: shown to whoever waits for it.")

    def to_change(self) -> ProviderChange:
        """What the use case takes."""
        return ProviderChange(
            config=self.config,
            priority=self.priority,
            max_workers=self.max_workers,
            labels=self.labels,
            status=None if self.status is None else ProviderStatus[self.status.name],
            reason=self.status_reason,
        )


class WorkerIn(In):
    """A worker to be made by hand."""

    type: Sentence = Field(description="What it is for, in a word of yours.", examples=["rust"])
    provider: ProviderWord | None = Field(
        None,
        description="A provider's name or id; else the one that `auto` would choose now.",
        examples=["docker"],
    )
    image: Image | None = None
    idle_s: float = Field(
        IDLE_S, ge=1, le=30 * 86_400, description="It is ended after so many seconds without a job."
    )

    def to_new_worker(self) -> NewWorker:
        """What the use case takes."""
        return NewWorker(worker_type=self.type, provider=self.provider, image=self.image, idle_s=self.idle_s)


class WorkerEntryIn(In):
    """A self-hosted worker to be registered."""

    type: WorkerType = Field(
        description='The label by which jobs ask for it: `required_labels: {"type": …}`.', examples=["rust"]
    )


class StartQuery(Query):
    """How long to wait for the worker."""

    wait: float = Field(
        WAIT_FOR_A_WORKER_S,
        ge=0,
        le=LONGEST_WAIT_S,
        description="Answer when it is connected, at the latest after so many seconds.",
    )


class ExecuteIn(In):
    """A job that is held, or has ended, and what it is to run."""

    job_id: UUID
    command: Command | None = Field(
        None, description="In place of the job's command, script and arguments; without it, they are run."
    )


class ExecuteQuery(Query):
    """How long to wait for the beginning."""

    wait: float = Field(
        WAIT_FOR_A_BEGINNING_S,
        ge=0,
        le=LONGEST_WAIT_S,
        description="Answer when it runs, at the latest after so many seconds.",
    )
