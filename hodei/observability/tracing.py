"""Traces: one per job, from the request to the result. Off by default, and then nothing of OpenTelemetry is imported.

A span's id is derived from what it stands for, so that a process can name as a parent what another one, or the clock after the
job's end, will tell of. Contexts between processes are W3C ``traceparent`` texts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from hodei.errors import ConfigurationError

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool | None]

TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(-.*)?"
)
"""Of later versions what this one knows."""


class Span(Protocol):
    """A span that is under way."""

    def set(self, **attributes: str | int | float | bool | None) -> None:
        """Add attributes; ``http__route`` is ``http.route``, None is left out."""

    def fail(self, message: str) -> None:
        """What it stands for went wrong."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A span of something that is over. ``parent`` is a traceparent."""

    name: str
    parent: str
    span_id: int
    began: datetime
    ended: datetime
    kind: Kind = "internal"
    error: str | None = None
    attributes: Attributes = field(default_factory=dict)


class Tracing(Protocol):
    """Where a process tells what it did. Nothing here blocks or raises, whether or not anybody listens."""

    @property
    def on(self) -> bool:
        """Whether anybody wants to know: what has to be looked up for a span alone is left out otherwise."""

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: str | None = None,
        link: str | None = None,
        apart: bool = False,
        attributes: Attributes | None = None,
    ) -> AbstractContextManager[Span]:
        """A span for the block; what it raises is its failure.

        Within another one of this thread, or of ``parent``; ``apart``: the first of a trace of its own, linked to ``link``.
        """

    def in_request(self) -> bool:
        """Whether this thread is within a request's span."""

    def current(self) -> str | None:
        """The traceparent of this thread's span; None outside any."""

    def tell(self, told: Told) -> None:
        """Tell of something that is over."""

    def close(self) -> None:
        """Send what waits, for a moment."""


class _Nothing:
    def set(self, **attributes: str | int | float | bool | None) -> None:
        pass

    def fail(self, message: str) -> None:
        pass


_NOTHING = _Nothing()


class NoTracing:
    """Tells nobody."""

    on = False

    @contextmanager
    def span(self, name: str, **_: object) -> Iterator[Span]:
        yield _NOTHING

    def in_request(self) -> bool:
        return False

    def current(self) -> str | None:
        return None

    def tell(self, told: Told) -> None:
        pass

    def close(self) -> None:
        pass


def span_id(*parts: object) -> int:
    """The id of the span of what these name; never 0."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def with_span(traceparent: str, span: int) -> str:
    """The same trace, within this span."""
    return f"{traceparent[:36]}{span:016x}{traceparent[52:]}"


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the standard variables ask for traces. Raises ConfigurationError for a protocol that is not spoken here."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") not in ("otlp", ""):
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if not any(environment.get(name) for name in endpoints):
        return False
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(name) or "http/protobuf"
        if protocol != "http/protobuf":
            raise ConfigurationError(
                f"{name}={protocol} is not spoken here: traces are sent as http/protobuf, to port 4318 as a rule.",
                field=name,
            )
    return True


def open_tracing(environment: Mapping[str, str], service: str) -> Tracing:
    """What the standard ``OTEL_…`` variables ask for: where to, and as which service."""
    if not is_wanted(environment):
        return NoTracing()
    from hodei.observability.otel import OpenTelemetryTracing

    return OpenTelemetryTracing(service)
