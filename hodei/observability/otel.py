"""Traces over OTLP/HTTP. Imported only where they are asked for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from hodei import __version__
from hodei.observability.tracing import TRACEPARENT, Attributes, Kind, Span, Told

log = structlog.get_logger("hodei.traces")

LEAVE_WITHIN_S = 2.0
SAY_EVERY_S = 60.0
"""A collector that is away is said once a minute."""

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_kind: ContextVar[Kind | None] = ContextVar("kind of the current span", default=None)
_chosen: ContextVar[int | None] = ContextVar("chosen span id", default=None)


class _Ids(RandomIdGenerator):
    """Random, but for a span whose id follows from what it stands for."""

    def generate_span_id(self) -> int:
        return _chosen.get() or super().generate_span_id()


class OpenTelemetryTracing:
    """Sends spans from a thread of its own, in batches. What cannot be sent is dropped: no collector slows anything."""

    on = True

    def __init__(self, service: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # `_Patient` says what there is to say
        self._provider = TracerProvider(
            resource=_resource(service), id_generator=_Ids(), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(_Patient(OTLPSpanExporter())))
        self._tracer = self._provider.get_tracer("hodei", __version__)

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: str | None = None,
        link: str | None = None,
        apart: bool = False,
        attributes: Attributes | None = None,
    ) -> Iterator[Span]:
        within = Context() if apart else _within(parent) if parent else None
        linked = _context(link) if link else None
        with self._tracer.start_as_current_span(
            name,
            context=within,
            kind=_KINDS[kind],
            attributes=_sane(attributes or {}),
            links=[Link(linked)] if linked else None,
        ) as span:
            token = _kind.set(kind)
            try:
                yield _Span(span)
            finally:
                _kind.reset(token)

    def in_request(self) -> bool:
        return _kind.get() == "server"

    def current(self) -> str | None:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        flags = int(context.trace_flags) & TraceFlags.SAMPLED
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"

    def tell(self, told: Told) -> None:
        token = _chosen.set(told.span_id)
        try:
            span = self._tracer.start_span(
                told.name,
                context=_within(told.parent),
                kind=_KINDS[told.kind],
                attributes=_sane(told.attributes),
                start_time=_ns(told.began),
            )
        finally:
            _chosen.reset(token)
        if told.error is not None:
            span.set_status(Status(StatusCode.ERROR, told.error))
        span.end(end_time=max(_ns(told.began), _ns(told.ended)))

    def close(self) -> None:
        leaving = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        leaving.start()
        leaving.join(LEAVE_WITHIN_S)


class _Span:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, **attributes: str | int | float | bool | None) -> None:
        self._span.set_attributes(
            _sane({name.replace("__", "."): value for name, value in attributes.items()})
        )

    def fail(self, message: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, message))


class _Patient(SpanExporter):
    """Hands on to another one, and says once a minute when that fails."""

    def __init__(self, other: SpanExporter) -> None:
        self._other = other
        self._said_at = float("-inf")
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._other.export(spans)
            reason = "the collector did not take them"
        except Exception as error:
            result, reason = SpanExportResult.FAILURE, str(error)
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            if time.monotonic() - self._said_at >= SAY_EVERY_S:
                log.warning("traces.not_sent", spans=self._lost, reason=reason)
                self._said_at, self._lost = time.monotonic(), 0
        return result

    def shutdown(self) -> None:
        self._other.shutdown()


def _resource(service: str) -> Resource:
    """As ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` say; a service without a name gets ours."""
    found = Resource.create({"service.version": __version__})
    if str(found.attributes["service.name"]).startswith("unknown_service"):
        return found.merge(Resource({"service.name": f"hodei-{service}"}))
    return found


def _context(traceparent: str) -> SpanContext | None:
    found = TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    context = SpanContext(
        trace_id=int(found["trace"], 16),
        span_id=int(found["span"], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(found["flags"], 16) & TraceFlags.SAMPLED),
    )
    return context if context.is_valid else None


def _within(traceparent: str) -> Context | None:
    context = _context(traceparent)
    return None if context is None else trace.set_span_in_context(NonRecordingSpan(context), Context())


def _sane(attributes: Attributes) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in attributes.items() if value is not None}


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000
