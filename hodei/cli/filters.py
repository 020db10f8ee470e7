"""The options that narrow lists, the same words everywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from hodei.cli import inputs

Since = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN", help="Only from then on: a time, or how long ago, such as 2h.", show_default=False
    ),
]
Until = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="Only before then: a time, or how long ago.", show_default=False),
]
Words = Annotated[
    str | None, typer.Option("--text", help="Only what holds this text, in any case.", show_default=False)
]


def by_time_and_text(since: str | None, until: str | None, text: str | None) -> dict[str, str | None]:
    """As the API takes them. Raises InvalidInput."""
    now = datetime.now(UTC)
    times = {"since": inputs.since(since, now), "until": inputs.since(until, now, "--until")}
    return {name: _exact(value) for name, value in times.items()} | {"text": text}


def _exact(value: str | None) -> str | None:
    return None if value is None else value.replace("+00:00", "Z")
