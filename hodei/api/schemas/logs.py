"""Logs: which part is asked for, and what an entry looks like."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, Field, RootModel

from hodei.api.schemas.common import Form, Out, Query, Text, Time
from hodei.errors import InvalidInput
from hodei.logs.selection import Selection
from hodei.services.logs import NO_LIMIT, Part

USUAL_LIMIT = 1000
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class LogEntry(Out):
    """A line that a job wrote. ``partial`` is true when it goes on in the stream's next entry. Bytes that are no UTF-8
    show in ``text`` as U+FFFD; ``bytes`` then has them, in Base64."""

    seq: int
    attempt: int
    stream: Literal["stdout", "stderr"]
    at: Time
    text: str


class LogEntries(RootModel[list[LogEntry]]):
    """Log entries in order."""


class ExecutionLogQuery(Query):
    """Which part of an execution's log."""

    after: int = Field(0, ge=0, le=2**62, description="A cursor: only entries with a higher seq.")
    limit: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description=f"How many entries at most: as JSON {USUAL_LIMIT}, else all of them.",
    )
    wait_s: float = Field(0.0, ge=0, le=60, description="Wait so long for an entry when there is none yet.")
    tail: int | None = Field(
        None, ge=0, le=10_000_000, description="Only the last so many of what is wanted."
    )
    since: Text | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Only what was written since then: a time as in RFC 3339, or how long ago, such as 30s, 5m or 2h.",
        json_schema_extra={"example": "5m"},
    )
    stream: Literal["stdout", "stderr"] | None = Field(None, description="Only this stream.")
    grep: Text | None = Field(
        None, min_length=1, max_length=1000, description="Only lines that hold this text, as it is."
    )
    ignore_case: bool = Field(False, description="For grep: do not tell large from small letters.")
    follow: bool = Field(
        False,
        description="Server-Sent Events, an entry each, from here until the end, which an `end` event tells.",
    )
    raw: bool = Field(False, description="The exact bytes, as with `Accept: application/octet-stream`.")
    download: bool = Field(False, description="As a file with a name; text, where nothing else is asked for.")

    def part(self) -> Part:
        """The same for the use cases. Raises InvalidInput."""
        selection = Selection(
            stream=self.stream,
            since_us=None if self.since is None else moment_us(self.since),
            grep=self.grep,
            ignore_case=self.ignore_case,
        )
        limit = NO_LIMIT if self.limit is None else self.limit
        return Part(after=self.after, tail=self.tail, limit=limit, selection=selection)


class LogQuery(ExecutionLogQuery):
    """Which part of a log."""

    attempt: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="Without it the last one; when following, also those that come after it.",
    )


class PlaceHeader(BaseModel):
    """Where a stream of events goes on."""

    place: (
        Annotated[
            str,
            Form(r"^([0-9]{1,9}-[0-9]{1,18})?$", "should be the id of an event that was got, such as 1-42"),
        ]
        | None
    ) = Field(
        None,
        alias="Last-Event-ID",
        description="The id of the last event that was got, attempt and seq: following goes on after it. Empty: none was got.",
        json_schema_extra={"example": "1-42"},
    )

    def parts(self) -> tuple[int, int] | None:
        """Attempt and seq."""
        if not self.place:
            return None
        attempt, _, seq = self.place.partition("-")
        return int(attempt), int(seq)


_LAST_US = 253_402_300_799_000_000
"""The end of 9999 in UTC: a later moment, which a zone's offset can make of a time, is one for no clock."""


def moment_us(text: str) -> int:
    """A time, or how long ago, in microseconds since the epoch. Raises InvalidInput."""
    ago = _DURATION.fullmatch(text.lower())
    try:
        if ago is not None:
            at = datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
        else:
            at = datetime.fromisoformat(
                text.replace(" ", "+")
            )  # a + that came as such in a query is a blank here
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return min(max(0, int(at.timestamp() * 1e6)), _LAST_US)
    except (ValueError, OverflowError):
        sentence = "since is neither a time such as 2026-03-01T12:00:00Z nor a duration such as 5m."
        raise InvalidInput(sentence, field="since") from None
