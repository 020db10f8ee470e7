"""A receiver of traces over OTLP/HTTP, as a collector is: what was sent is kept."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

ERROR = 2
KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


@dataclass(frozen=True, kw_only=True)
class Received:
    """A span as it came."""

    name: str
    service: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began_ns: int
    ended_ns: int
    is_error: bool
    message: str
    attributes: dict[str, Any]
    links: list[str]

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e9


@dataclass
class Receiver:
    """All spans that were received. ``url`` is what ``OTEL_EXPORTER_OTLP_ENDPOINT`` wants."""

    url: str = ""
    kept: list[Received] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    def spans(self, trace_id: str | None = None) -> list[Received]:
        """Those of one trace, or all; by when they began. One that came twice is there once."""
        by_id = {span.span_id: span for span in list(self.kept) if trace_id in (None, span.trace_id)}
        return sorted(by_id.values(), key=lambda span: span.began_ns)

    def of_job(self, job_id: str) -> list[Received]:
        """The trace in which the job was submitted."""
        traces = {
            span.trace_id
            for span in list(self.kept)
            if span.name == "submit job" and span.attributes.get("hodei.job.id") == job_id
        }
        return self.spans(traces.pop()) if len(traces) == 1 else []


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Listens on a free port of loopback until the end of the block."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            found.paths.add(self.path)
            found.kept.extend(_spans(ExportTraceServiceRequest.FromString(body)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _spans(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    name=span.name,
                    service=service,
                    kind=KINDS.get(span.kind, str(span.kind)),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    began_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    is_error=span.status.code == ERROR,
                    message=span.status.message,
                    attributes=_attributes(span.attributes),
                    links=[link.trace_id.hex() for link in span.links],
                )


def _attributes(found: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in found}
