"""A job as it is submitted, and its translation into the domain's words."""

from __future__ import annotations

import re
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from hodei.api.schemas.common import ONE_YEAR_S, In
from hodei.api.schemas.job_values import (
    Arguments,
    Command,
    Environment,
    Image,
    Labels,
    Memory,
    Name,
    ProviderWord,
    Script,
    Secrets,
)
from hodei.domain import job as domain
from hodei.services.submit import NewJob

Seconds = Annotated[float, Field(gt=0, le=ONE_YEAR_S)]
ExitCode = Annotated[int, Field(ge=0, le=255)]
_IS_TEXT: dict[str, Any] = {"type": "string"}
_ONE_AT_LEAST: dict[str, Any] = {
    "anyOf": [
        {"required": [name], "properties": {name: _IS_TEXT}} for name in ("command", "script", "pipeline_id")
    ]
}
"""Inside ``allOf``, where generators of clients do not take the alternatives for classes of their own."""


class TimeoutsIn(In):
    """How long each part of the job's life may take, in seconds."""

    queue_s: Seconds = domain.QUEUE_S
    provision_s: Seconds = domain.PROVISION_S
    start_s: Seconds = domain.START_S
    idle_s: Seconds | None = Field(
        default=None, description="End the job after so long without output; null: never."
    )
    cancel_s: Seconds = domain.CANCEL_S


class JobPlace(In):
    """Where and how a job runs, and how often it is tried."""

    provider: ProviderWord = Field(
        "auto",
        description="docker, kubernetes, process, another provider's name, or auto.",
        examples=["auto", "docker", "kubernetes", "process"],
    )
    required_labels: Labels = Field({}, description="Labels that the provider must have.")
    cpu: float | None = Field(None, ge=0.001, le=10_000, description="Cores.")
    memory: Memory | None = Field(
        None, description="Bytes, or a size such as 512m; units are powers of 1024."
    )
    timeout_s: Seconds | None = Field(None, description="Counted from RUNNING; null: none.")
    grace_s: float = Field(domain.GRACE_S, ge=0, le=3600, description="Between TERM and KILL.")
    retries: int = Field(0, ge=0, le=100)
    retry_on: list[ExitCode] = Field(
        [], max_length=256, description="Retry only these exit codes; empty: any."
    )
    priority: int = Field(0, ge=0, le=9, description="High first.")
    timeouts: TimeoutsIn = TimeoutsIn()

    def to_spec(self, **what: Any) -> domain.JobSpec:
        """The specification of ``what`` runs there."""
        return domain.JobSpec(
            **what,
            provider=self.provider,
            required_labels=self.required_labels,
            cpu=self.cpu,
            memory_bytes=self.memory,
            timeout_s=self.timeout_s,
            grace_s=self.grace_s,
            retries=self.retries,
            retry_on=tuple(self.retry_on),
            timeouts=domain.Timeouts(**self.timeouts.model_dump()),
        )


class JobIn(JobPlace):
    """A job to run: a command or a script, and where and how."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [_ONE_AT_LEAST],
            "not": {
                "required": ["command", "script"],
                "properties": {"command": _IS_TEXT, "script": _IS_TEXT},
            },
            "examples": [
                {
                    "name": "hello",
                    "command": "echo hello",
                    "provider": "docker",
                    "memory": "512m",
                    "timeout_s": 30.0,
                }
            ],
        }
    )

    name: Name | None = Field(None, description="Without one, the command's first word.")
    command: Command | None = Field(
        None, description="A shell line; with args, a program that is executed directly."
    )
    script: Script | None = Field(
        None, description="A whole file, started through its #! line, else by a shell."
    )
    args: Arguments | None = Field(None, description="A string is split as a shell splits it.")
    image: Image | None = None
    env: Environment = {}
    secret_env: Secrets = Field({}, description="Encrypted, masked in the log, never shown again.")
    labels: Labels = {}
    pipeline_id: UUID | None = None

    @model_validator(mode="after")
    def _together(self) -> JobIn:
        if self.command is not None and self.script is not None:
            raise at("script", "Give either command or script, not both.")
        if self.command is None and self.script is None:
            if self.pipeline_id is None:
                raise at(
                    "command",
                    "command is missing: give a command, a script, or the pipeline that this belongs to.",
                )
            if self.args is not None:
                raise at("args", "args needs a command or a script that takes them.")
        twice = sorted(self.env.keys() & self.secret_env.keys())
        if twice:
            raise at("secret_env", f"{twice[0]!r} is in both env and secret_env: leave one out.")
        return self

    def to_new_job(self) -> NewJob:
        """What the use case takes."""
        spec = self.to_spec(
            command=self.command,
            script=self.script,
            args=None if self.args is None else tuple(self.args),
            image=self.image,
            env=self.env,
            secret_names=tuple(self.secret_env),
        )
        return NewJob(
            name=self.name or _name_from(self.command),
            spec=spec,
            priority=self.priority,
            labels=self.labels,
            pipeline_id=self.pipeline_id,
            secrets=self.secret_env,
        )


class BatchIn(In):
    """Several jobs, stored all or none."""

    jobs: list[JobIn] = Field(min_length=1, max_length=1000)


def at(field: str, sentence: str) -> PydanticCustomError:
    """A mistake that is no single field's type, and the field at which it shows."""
    context: dict[str, Any] = {"field": field, "sentence": sentence}
    return PydanticCustomError("together", "{sentence}", context)


def _name_from(command: str | None) -> str:
    if command is None:
        return "job"
    first = command.split()[0].rsplit("/", 1)[-1]
    return re.sub(r"[^\w.+-]", "", first)[:255] or "job"
