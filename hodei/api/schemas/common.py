"""Shapes that every resource shares: problems, paging, times, text that a database can hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

NOT_NUL = r"^[^\u0000]*$"
ONE_YEAR_S = 366 * 86_400
MOMENT = (
    r"^([0-9]{1,9}(\.[0-9]{1,9})?(ms|[smhd])?"
    r"|[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]|29|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?"
    r"(Z|[+ -]([01][0-9]|2[0-3]):[0-5][0-9])?)?)$"
)
FIRST_MOMENT = datetime(1, 1, 1, tzinfo=UTC)
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True)
class Form:
    """The form of a text: the pattern is for the schema, the words, which go on after the field's name, for who is refused."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | {"pattern": self.pattern}

    def _checked(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise ValueError(self.words)
        return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


def moment(value: Any) -> Any:
    """A time as in RFC 3339 (UTC when it says no offset), or how long ago; longer than the calendar knows is its beginning."""
    if not isinstance(value, str) or not re.fullmatch(MOMENT, value):
        raise ValueError(
            "should be a time such as 2026-03-01T12:00:00Z, or how long ago, such as 30s, 5m, 2h or 7d"
        )
    ago = re.fullmatch(r"([0-9.]+)(ms|[smhd])?", value)
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
        at = datetime.fromisoformat(value.replace(" ", "+"))  # a + that came as such in a query is a blank
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        return FIRST_MOMENT
    except ValueError:
        raise ValueError("is no day of the calendar") from None


Text = Annotated[str, AfterValidator(_no_nul), Field(json_schema_extra={"pattern": NOT_NUL})]
Time = Annotated[
    datetime,
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-03-01T12:00:00.123456Z"]}),
]


Moment = Annotated[
    datetime,
    BeforeValidator(moment),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": MOMENT,
            "examples": ["2026-03-01T12:00:00Z", "30m", "7d"],
        }
    ),
]


class In(BaseModel):
    """A request: closed, and without conversions that its schema does not show."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Query(BaseModel):
    """A query string: closed; its strings are read as numbers where numbers are meant."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PageQuery(Query):
    """How lists are paged."""

    limit: int = Field(50, ge=1, le=500, description="How many at most.")
    cursor: str | None = Field(
        None, min_length=1, max_length=512, description="From the Link header of the page before."
    )


class FilterQuery(PageQuery):
    """How lists are narrowed by time and text."""

    since: Moment | None = Field(None, description="Only from then on: a time, or how long ago.")
    until: Moment | None = Field(None, description="Only before then: a time, or how long ago.")
    text: Text | None = Field(
        None, min_length=1, max_length=200, description="Only what holds this text, in any case."
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


OnceKey = Annotated[
    str,
    Field(min_length=1, max_length=255),
    Form(r"^[!-~]+$", "should be visible ASCII characters, without blanks"),
]


class OnceHeader(BaseModel):
    """A request that may be sent again."""

    key: OnceKey | None = Field(
        None,
        alias="Idempotency-Key",
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
