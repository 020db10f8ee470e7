"""Shapes that every resource shares: problems, paging, times, text that a database can hold."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

NOT_NUL = r"^[^\u0000]*$"
ONE_YEAR_S = 366 * 86_400


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


def _digits(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise ValueError("should be a whole number")
    return value


def _decimal(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", value):
        raise ValueError("should be a number of seconds")
    return value


Text = Annotated[str, AfterValidator(_no_nul), Field(json_schema_extra={"pattern": NOT_NUL})]
QueryInt = Annotated[int, BeforeValidator(_digits)]
QuerySeconds = Annotated[float, BeforeValidator(_decimal)]
Time = Annotated[
    datetime,
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-03-01T12:00:00.123456Z"]}),
]


class In(BaseModel):
    """A request: closed, and without conversions that its schema does not show."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Query(BaseModel):
    """A query string: closed; its strings are read as numbers where numbers are meant."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PageQuery(Query):
    """How lists are paged."""

    limit: QueryInt = Field(50, ge=1, le=500, description="How many at most.")
    cursor: str | None = Field(
        None, min_length=1, max_length=512, description="From the Link header of the page before."
    )


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="allow")


class Problem(Out):
    """What went wrong, as RFC 9457 has it."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not found"])
    status: int = Field(ge=400, le=599, examples=[404])
    code: str = Field(description="Stable: scripts may depend on it.", examples=["not_found"])
    detail: str = Field(
        description="One sentence that says what to do.", examples=["There is no job with this id."]
    )
    field: str = Field(
        "", description="The part of the request at fault, when there is one.", examples=["memory"]
    )


class LogTotals(Out):
    """How much was written, and whether all of it is stored."""

    entries: int
    bytes: int
    complete: bool


class Failure(Out):
    """Why an attempt ended."""

    code: str = Field(examples=["ERR_1007"])
    severity: str = Field(json_schema_extra={"enum": ["USER", "INFRASTRUCTURE", "CRITICAL"]})
    message: str
    actions: list[str]


class OnceHeader(BaseModel):
    """A request that may be sent again."""

    key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Sent again within 24 hours with the same body, the first answer comes again; with another, 409.",
        json_schema_extra={"example": "9c5b94b1-35ad-49bb-b118-8e8fc24abf80"},
    )


class JobPath(BaseModel):
    """A job's id."""

    job_id: UUID


class ExecutionPath(BaseModel):
    """An execution's id."""

    execution_id: UUID


class WorkerPath(BaseModel):
    """A worker's id."""

    worker_id: UUID


class SagaPath(BaseModel):
    """A saga's id."""

    saga_id: UUID


class ProviderPath(BaseModel):
    """A provider's id or name."""

    provider_id: str = Field(min_length=1, max_length=253, json_schema_extra={"example": "docker"})
