"""Pipelines as they are written, and their translation into the domain's words."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from hodei.api.schemas.common import In, PageQuery, Query, Text
from hodei.api.schemas.job_in import JobPlace, at
from hodei.api.schemas.job_values import Command, Environment, Labels, Name, Script, Secrets
from hodei.api.schemas.pipeline_values import (
    KEY_PATTERN,
    RESERVED,
    ArgumentTexts,
    ImageText,
    Key,
    MatrixValues,
    Needs,
    ParamText,
)
from hodei.domain import pipeline_definition as domain
from hodei.domain.pipeline import PipelineState, RunState, When
from hodei.domain.pipeline_graph import MAX_NODES, Matrix
from hodei.services.pipelines.change import KEEP, Changes
from hodei.services.pipelines.create import NewPipeline

MAX_PARAMS = 100
_IS_TEXT: dict[str, Any] = {"type": "string"}
_EITHER: dict[str, Any] = {
    "oneOf": [
        {"required": [name], "properties": {name: _IS_TEXT, other: {"type": "null"}}}
        for name, other in (("command", "script"), ("script", "command"))
    ]
}
"""Inside ``allOf``, where generators of clients do not take the alternatives for classes of their own."""

_WITH_OR_WITHOUT_JOBS: dict[str, Any] = {
    "oneOf": [
        {"required": ["jobs"], "properties": {"jobs": {"type": "array"}}},
        {
            "properties": {
                "jobs": {"type": "null"},
                "params": {"maxProperties": 0},
                "max_parallel": {"type": "null"},
            }
        },
    ]
}


def _params(value: dict[str, Any]) -> dict[str, Any]:
    for name in value:
        if not re.fullmatch(KEY_PATTERN, name):
            raise ValueError(f"params: {name[:64]!r} is not a name: letters, digits, _ and -.")
    return value


class ParamIn(In):
    """What a run may be given; a text."""

    default: ParamText | None = Field(None, description="null: empty, when it is not required.")
    required: bool = False
    description: Annotated[Text, Field(max_length=1000)] = ""

    @model_validator(mode="after")
    def _either(self) -> ParamIn:
        if self.required and self.default is not None:
            raise at("required", "A parameter with a default is never missing: leave required out.")
        return self


Params = Annotated[
    dict[str, ParamIn],
    AfterValidator(_params),
    Field(max_length=MAX_PARAMS, json_schema_extra={"propertyNames": {"pattern": KEY_PATTERN}}),
]


class PipelineJobIn(JobPlace):
    """A job of a pipeline.

    `${{ params.x }}`, `${{ matrix.x }}`, `${{ needs.job.outputs.x }}`, `${{ needs.job.status }}`, `${{ run.id }}` and
    `${{ run.number }}` may stand in name, args, image, and in the values of env and labels.
    """

    model_config = ConfigDict(json_schema_extra={"allOf": [_EITHER]})

    key: Key = Field(description="What the others call it in `needs`.", examples=["build"])
    needs: Needs = Field([], description="The jobs that must have ended before it.")
    when: When = Field(When.SUCCESS, description="What these must have come to.")
    matrix: MatrixValues | None = Field(
        None, description="A job for each combination; `include` adds some, `exclude` leaves some out."
    )
    name: Name | None = Field(None, description="Of its jobs; without one, the key.")
    command: Command | None = Field(
        None, description="A shell line; with args, a program that is executed directly."
    )
    script: Script | None = Field(
        None, description="A whole file, started through its #! line, else by a shell."
    )
    args: ArgumentTexts | None = Field(None, description="A string is split as a shell splits it.")
    image: ImageText | None = None
    env: Environment = {}
    secret_env: Secrets = Field({}, description="Encrypted, masked in the log, never shown again.")
    labels: Labels = {}

    @model_validator(mode="after")
    def _together(self) -> PipelineJobIn:
        if (self.command is None) == (self.script is None):
            field = "command" if self.command is None else "script"
            raise at(field, "Give either command or script.")
        twice = sorted(self.env.keys() & self.secret_env.keys())
        if twice:
            raise at("secret_env", f"{twice[0]!r} is in both env and secret_env: leave one out.")
        return self

    def to_template(self) -> domain.JobTemplate:
        """What the use case takes."""
        matrix = None
        if self.matrix is not None:
            axes = {name: tuple(values) for name, values in self.matrix.items() if name not in RESERVED}
            include, exclude = (tuple(self.matrix.get(name, ())) for name in RESERVED)
            matrix = Matrix(axes=axes, include=include, exclude=exclude)
        spec = self.to_spec(
            command=self.command,
            script=self.script,
            args=None if self.args is None else tuple(self.args),
            image=self.image,
            env=self.env,
            secret_names=tuple(self.secret_env),
        )
        return domain.JobTemplate(
            key=self.key,
            needs=tuple(self.needs),
            when=self.when,
            matrix=matrix,
            name=self.name,
            spec=spec,
            priority=self.priority,
            labels=self.labels,
        )


Jobs = Annotated[list[PipelineJobIn], Field(min_length=1, max_length=MAX_NODES)]
Parallel = Annotated[int, Field(ge=1, le=MAX_NODES)]
Description = Annotated[Text, Field(max_length=4096)]
_PARALLEL = "So many of a run's jobs at a time; null: as many as there is room for."


class PipelineIn(In):
    """A pipeline: jobs in a graph, or the plain form with neither jobs nor params, to which jobs are attached."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [_WITH_OR_WITHOUT_JOBS],
            "examples": [
                {
                    "name": "release",
                    "params": {"version": {"required": True}},
                    "jobs": [
                        {
                            "key": "build",
                            "command": 'echo "tag=v$V" > $HODEI_OUTPUT',
                            "env": {"V": "${{ params.version }}"},
                        },
                        {"key": "test", "needs": ["build"], "command": "true", "matrix": {"os": ["a", "b"]}},
                        {
                            "key": "publish",
                            "needs": ["build", "test"],
                            "command": "echo $TAG",
                            "env": {"TAG": "${{ needs.build.outputs.tag }}"},
                        },
                    ],
                }
            ],
        }
    )

    name: Name
    description: Description = ""
    params: Params = Field({}, description="What a run may be given.")
    max_parallel: Parallel | None = Field(None, description=_PARALLEL)
    jobs: Jobs | None = None

    @model_validator(mode="after")
    def _with_jobs(self) -> PipelineIn:
        if self.jobs is None:
            for field in ("params", "max_parallel"):
                if getattr(self, field):
                    raise at(field, f"{field} is for pipelines with jobs: give it some.")
        return self

    def to_new_pipeline(self) -> NewPipeline:
        """What the use case takes."""
        definition = None
        if self.jobs is not None:
            definition = domain.Definition(
                jobs=_templates(self.jobs), params=_domain_params(self.params), max_parallel=self.max_parallel
            )
        return NewPipeline(
            name=self.name,
            description=self.description,
            definition=definition,
            secrets=_secrets(self.jobs or []),
        )


def file_schema() -> dict[str, Any]:
    """The JSON Schema of a pipeline's file, which ``hodei pipeline create -f`` reads: as over HTTP, where numbers may stand for
    texts, and ``secret_env`` may name variables of the shell in which it is read.
    """
    schema = PipelineIn.model_json_schema()
    job = schema["$defs"]["PipelineJobIn"]["properties"]
    secrets = job["secret_env"]
    names = {"type": "array", "items": {"type": "string", "pattern": "^(?!HODEI_)[A-Za-z_][A-Za-z0-9_]*$"}}
    about = {name: secrets.pop(name) for name in ("default", "description", "title") if name in secrets}
    job["secret_env"] = {"anyOf": [secrets, names], **about}
    for values in (job["env"], job["labels"]):
        values["additionalProperties"] = {
            "anyOf": [values["additionalProperties"], {"type": ["number", "boolean"]}]
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A pipeline of Hodei Jobs",
        **{name: value for name, value in schema.items() if name != "title"},
    }


def _templates(jobs: list[PipelineJobIn]) -> tuple[domain.JobTemplate, ...]:
    return tuple(job.to_template() for job in jobs)


def _secrets(jobs: list[PipelineJobIn]) -> dict[str, dict[str, str]]:
    return {job.key: job.secret_env for job in jobs if job.secret_env}


def _domain_params(params: dict[str, ParamIn]) -> dict[str, domain.Param]:
    return {name: domain.Param(**param.model_dump()) for name, param in params.items()}


class PipelineStatus(StrEnum):
    """Whether runs of it may begin."""

    ACTIVE = "active"
    DISABLED = "disabled"


def _kept(description: str | None = None) -> Any:
    """A field that stays as it is when it is not named: it has no default that a client could send."""
    return Field(default_factory=lambda: None, description=description)


class PipelineChange(In):
    """What is to be different; what is not named stays. Runs keep the jobs that they began with."""

    model_config = ConfigDict(
        json_schema_extra={"minProperties": 1, "examples": [{"status": "disabled"}, {"max_parallel": 4}]}
    )

    name: Name = _kept()
    description: Description = _kept()
    status: PipelineStatus = _kept()
    params: Params = _kept()
    max_parallel: Parallel | None = _kept(_PARALLEL)
    jobs: Jobs = _kept("All jobs anew, with their secrets.")

    @model_validator(mode="after")
    def _something(self) -> PipelineChange:
        if not self.model_fields_set:
            raise at("status", "Name what is to change, such as status.")
        return self

    def to_changes(self) -> Changes:
        """What was named, as the use case takes it."""
        named = self.model_fields_set
        status = PipelineState(self.status.upper()) if "status" in named else KEEP
        return Changes(
            name=self.name if "name" in named else KEEP,
            description=self.description if "description" in named else KEEP,
            state=status,
            params=_domain_params(self.params) if "params" in named else KEEP,
            max_parallel=self.max_parallel if "max_parallel" in named else KEEP,
            jobs=_templates(self.jobs) if "jobs" in named else KEEP,
            secrets=_secrets(self.jobs) if "jobs" in named else {},
        )


class RunIn(In):
    """A run of a pipeline, and the values of its parameters."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"params": {"version": "1.2.3"}}]})

    params: Annotated[dict[str, ParamText], Field(max_length=MAX_PARAMS)] = {}


class PipelinePath(BaseModel):
    """A pipeline's id."""

    pipeline_id: UUID


class RunPath(BaseModel):
    """A run's id."""

    run_id: UUID


class PipelinesQuery(PageQuery):
    """Which pipelines."""

    name: Text | None = Field(None, min_length=1, max_length=255)


RunStatus = StrEnum("RunStatus", [(state.name, state.value.lower()) for state in RunState])  # type: ignore[misc]


class RunsQuery(PageQuery):
    """Which runs."""

    status: RunStatus | None = None


class RunQuery(Query):
    """Whether to wait for the run's end."""

    wait: float | None = Field(
        None, ge=0, le=300, description="Answer when the run ends, at the latest after so many seconds."
    )
