"""Schedules as they are written and shown."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator
from pydantic_core import PydanticCustomError

from hodei.api.schemas.common import Form, In, Out, PageQuery, Query, Time
from hodei.api.schemas.job_out import JobStatus
from hodei.api.schemas.job_values import Command, Name
from hodei.domain.schedule import MAX_CATCH_UP, CatchUp, FiringKind, Overlap
from hodei.services.schedules.create import NewSchedule
from hodei.services.schedules.read import MAX_UPCOMING
from hodei.services.schedules.times import CRON_PATTERN, FORMS, MAX_CRON_CHARACTERS, MOMENT_PATTERN

MAX_JITTER_S = 86_400
MAX_FAILURES = 1000
MAX_CHARACTERS = 64
"""No zone and no time is longer."""
_START = "No time before this one counts. With cron only."
_END = "No time after this one counts. With cron only."
_IS_TEXT: dict[str, Any] = {"type": "string"}

AnyCron = Annotated[
    str,
    Field(
        max_length=MAX_CRON_CHARACTERS,
        description=f"Five fields, or {', '.join(FORMS)}.",
        examples=["30 2 * * MON-FRI", "@daily"],
    ),
]
AnyMoment = Annotated[
    str,
    Field(
        max_length=MAX_CHARACTERS,
        description="RFC 3339; without an offset it is read in `timezone`.",
        examples=["2030-05-01T12:00:00Z", "2030-05-01T12:00"],
    ),
]
AnyZone = Annotated[
    str,
    Field(max_length=MAX_CHARACTERS, description="An IANA time zone.", examples=["UTC", "Europe/Berlin"]),
]
Cron = Annotated[
    AnyCron,
    Form(
        CRON_PATTERN,
        "should have five fields (minute, hour, day of the month, month, day of the week), such as 30 2 * * MON-FRI, "
        f"or be one of {', '.join(FORMS)}",
    ),
]
Moment = Annotated[
    AnyMoment,
    Form(
        MOMENT_PATTERN,
        "should be a time from the year 2000 on, such as 2030-05-01T12:00:00Z, or 2030-05-01T12:00 in the schedule's zone",
    ),
]
Zone = Annotated[
    AnyZone,
    Form(r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$", "should be an IANA time zone, such as Europe/Berlin, or UTC"),
]
Jitter = Annotated[
    float,
    Field(
        ge=0,
        le=MAX_JITTER_S,
        description="Each firing comes later by up to so many seconds; `scheduled_for` stays.",
    ),
]
Most = Annotated[
    int,
    Field(ge=1, le=MAX_CATCH_UP, description="With catch_up all: of the missed times the last so many."),
]
Failures = Annotated[
    int, Field(ge=1, le=MAX_FAILURES, description="Pause after so many failed runs in a row.")
]


_IS_NULL: dict[str, Any] = {"type": "null"}
_CRON_ALONE: dict[str, Any] = {
    "required": ["cron"],
    "properties": {"cron": _IS_TEXT, "schedule_time": _IS_NULL},
}
_TIME_ALONE: dict[str, Any] = {
    "required": ["schedule_time"],
    "properties": {"schedule_time": _IS_TEXT, "cron": _IS_NULL},
}
_TIME_WITHOUT_BOUNDS: dict[str, Any] = {
    "required": ["schedule_time"],
    "properties": {**_TIME_ALONE["properties"], "start_at": _IS_NULL, "end_at": _IS_NULL},
}


def _kept(description: str | None = None) -> Any:
    """A field that stays as it is when it is not named: it has no default that a client could send."""
    return Field(default_factory=lambda: None, description=description)


class SchedulePath(BaseModel):
    """A schedule's id."""

    schedule_id: UUID


class TimesIn(In):
    """When a schedule fires: cron or schedule_time. What is wrong with one of them is answered, not refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [{"oneOf": [_CRON_ALONE, _TIME_ALONE]}],
            "examples": [{"cron": "30 2 * * *", "timezone": "Europe/Berlin"}],
        }
    )

    cron: AnyCron | None = None
    schedule_time: AnyMoment | None = None
    timezone: AnyZone = "UTC"
    start_at: AnyMoment | None = Field(None, description=_START)
    end_at: AnyMoment | None = Field(None, description=_END)

    @model_validator(mode="after")
    def _one_of_two(self) -> TimesIn:
        if (self.cron is None) == (self.schedule_time is None):
            field = "cron" if self.cron is None else "schedule_time"
            context: dict[str, Any] = {"field": field, "sentence": "Give either cron or schedule_time."}
            raise PydanticCustomError("together", "{sentence}", context)
        return self


class ScheduleIn(TimesIn):
    """A schedule: which job's definition runs when."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [{"oneOf": [_CRON_ALONE, _TIME_WITHOUT_BOUNDS]}],
            "examples": [
                {
                    "job_id": "0196a3c4-0000-7000-8000-000000000001",
                    "cron": "30 2 * * *",
                    "timezone": "Europe/Berlin",
                }
            ],
        }
    )

    cron: Cron | None = None
    schedule_time: Moment | None = None
    timezone: Zone = "UTC"
    start_at: Moment | None = Field(None, description=_START)
    end_at: Moment | None = Field(None, description=_END)
    job_id: UUID = Field(description="Its definition is run at each time, as a job of its own.")
    name: Name | None = Field(None, description="Without one, the job's.")
    command: Command | None = Field(None, description="A shell line in place of the definition's command.")
    overlap: Overlap = Field(Overlap.SKIP, description="What happens while the run before is still going.")
    catch_up: CatchUp = Field(
        CatchUp.LAST, description="What becomes of times that were missed because nothing ran."
    )
    catch_up_limit: Most = 100
    jitter_s: Jitter = 0.0
    pause_after_failures: Failures | None = None

    def to_new_schedule(self) -> NewSchedule:
        """What the use case takes."""
        return NewSchedule(**self.model_dump())


class Wanted(StrEnum):
    """What a schedule is to be."""

    SCHEDULED = "scheduled"
    PAUSED = "paused"


class ScheduleChange(In):
    """What is to be different; what is not named stays. `cron` takes the place of `schedule_time`, and the other way."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "not": {"required": ["cron", "schedule_time"]},
            "examples": [{"status": "paused"}, {"cron": "0 3 * * *"}],
        }
    )

    status: Wanted = _kept("`paused`, or `scheduled` to resume it.")
    name: Name = _kept()
    command: Command | None = _kept(
        "A shell line in place of the definition's command; null: the definition's own."
    )
    cron: Cron = _kept()
    schedule_time: Moment = _kept()
    timezone: Zone = _kept()
    start_at: Moment | None = _kept()
    end_at: Moment | None = _kept()
    overlap: Overlap = _kept()
    catch_up: CatchUp = _kept()
    catch_up_limit: Most = _kept()
    jitter_s: Jitter = _kept()
    pause_after_failures: Failures | None = _kept()

    @model_validator(mode="after")
    def _something(self) -> ScheduleChange:
        sentence = None
        if not self.model_fields_set:
            sentence, field = "Name what is to change, such as status.", "status"
        elif {"cron", "schedule_time"} <= self.model_fields_set:
            sentence, field = "Give either cron or schedule_time.", "schedule_time"
        if sentence:
            context: dict[str, Any] = {"field": field, "sentence": sentence}
            raise PydanticCustomError("together", "{sentence}", context)
        return self

    def changes(self) -> dict[str, Any]:
        """What was named, as the use case takes it."""
        return {
            name: value.value if isinstance(value, StrEnum) else value
            for name, value in self.model_dump(exclude_unset=True).items()
        }


class ScheduleStatus(StrEnum):
    """Whether a schedule fires."""

    SCHEDULED = "scheduled"
    PAUSED = "paused"
    ENDED = "ended"


class ScheduleLinks(Out):
    """Where more is to be found."""

    self: str
    job: str
    upcoming: str
    firings: str


class Schedule(Out):
    """A schedule."""

    id: UUID
    name: str
    job_id: UUID
    status: ScheduleStatus
    reason: str | None = Field(description="Why it is paused, or has ended.")
    description: str = Field(
        description="When it fires, in words.", examples=["At 02:30 every day (Europe/Berlin)"]
    )
    command: str | None
    cron: str | None
    schedule_time: Time | None
    timezone: str
    overlap: Overlap
    catch_up: CatchUp
    catch_up_limit: int
    jitter_s: float
    start_at: Time | None
    end_at: Time | None
    pause_after_failures: int | None
    failures: int = Field(description="Runs that failed in a row, up to the last that ended.")
    next_at: Time | None = Field(description="The next time that it names; null when it does not fire.")
    last_at: Time | None = Field(description="The time that it last made a job for.")
    created_at: Time
    updated_at: Time
    links: ScheduleLinks


class ScheduleList(RootModel[list[Schedule]]):
    """Schedules, newest first."""


class SchedulesQuery(PageQuery):
    """Which schedules."""

    status: ScheduleStatus | None = None
    job_id: UUID | None = Field(None, description="Only those of this definition.")


class FiringResult(StrEnum):
    """What a time came to. waiting: its job is held until those before it have ended."""

    FIRED = "fired"
    WAITING = "waiting"
    SKIPPED = "skipped"


class Firing(Out):
    """What one of a schedule's times came to."""

    schedule_id: UUID
    scheduled_for: Time
    kind: FiringKind
    outcome: FiringResult
    reason: str | None = Field(description="Why it was skipped.")
    job_id: UUID | None
    job_status: JobStatus | None = Field(description="null when there is no job, or it was deleted.")
    created_at: Time


class FiringList(RootModel[list[Firing]]):
    """What a schedule's times came to, the latest first."""


class UpcomingQuery(Query):
    """How many times."""

    count: int = Field(10, ge=1, le=MAX_UPCOMING)


class UpcomingTime(Out):
    """A time that a schedule names."""

    scheduled_for: Time
    local: str = Field(
        description="What a clock in its zone shows, with the offset.", examples=["2026-05-01T02:30:00+02:00"]
    )


class UpcomingList(RootModel[list[UpcomingTime]]):
    """The next times, in order."""


class Validated(Out):
    """Whether these times would do, in words."""

    valid: bool
    message: str
    field: str | None = Field(description="The part at fault.")
    upcoming: list[UpcomingTime]
