"""Where Prometheus finds the metrics of a process that serves no HTTP of its own: a controller, a clock."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry

from hodei.errors import PortTaken
from hodei.exposure import check_exposure, host_in, is_address
from hodei.observability.metrics import new_registry
from hodei.observability.page import CONTENT_TYPE, page
from hodei.settings import Settings

log = structlog.get_logger("hodei.metrics")

NEIGHBOURS = 16
"""So many processes of a machine find a port each, from ``HODEI_METRICS_PORT`` on."""
TIMEOUT_S = 10.0


def serve_metrics(settings: Settings, registry: CollectorRegistry, *, service: str) -> int | None:
    """Answer ``GET /metrics`` from now on, in threads of its own; the port, or None when that is switched off.

    With ``HODEI_METRICS_PORT`` taken, by another controller as a rule, the first free one of those after it: the log says which.
    Raises ConfigurationError when it would be open to everybody, PortTaken when none is free.
    """
    if not settings.metrics_port:
        return None
    check_exposure(settings)
    own = new_registry()
    server = _bind(settings, lambda: page(own, registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    port = server.server_address[1]
    log.info("metrics: listening", url=f"http://{settings.bind}:{port}/metrics", listens_for=service)
    return port


def _bind(settings: Settings, text: Callable[[], bytes]) -> ThreadingHTTPServer:
    first = settings.metrics_port
    for port in range(first, min(first + NEIGHBOURS, 65536)):
        try:
            return _Server((settings.bind, port), _handler(settings, text))
        except OSError as error:
            reason = error.strerror
    raise PortTaken(
        f"The metrics can be served on no port from {first} to {port} ({reason}): choose others with HODEI_METRICS_PORT.",
        field="HODEI_METRICS_PORT",
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _handler(settings: Settings, text: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S
        server_version = "hodei"
        sys_version = ""

        def do_GET(self) -> None:
            if not _host_is_ours(settings, self.headers.get("Host", "")):
                self._answer(403, b"The Host header names another server.\n")
            elif not _token_is_right(settings, self.headers.get("Authorization", "")):
                self._answer(401, b"Send Authorization: Bearer with what HODEI_API_TOKEN holds.\n")
            elif urlsplit(self.path).path != "/metrics":
                self._answer(404, b"There is nothing here but /metrics.\n")
            else:
                self._answer(200, text())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            if status == 401:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            log.debug("metrics: request", said=format % arguments)

    return Handler


def _token_is_right(settings: Settings, header: str) -> bool:
    if settings.api_token is None:
        return True
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode(), settings.api_token.encode()
    )


def _host_is_ours(settings: Settings, header: str) -> bool:
    """By an address, or a name that is listed: a web page of a stranger's can have any other name lead here (DNS rebinding)."""
    host = host_in(header)
    allowed = {item.strip().lower() for item in settings.allowed_hosts.split(",") if item.strip()}
    return is_address(host) or host in allowed | {"localhost", settings.bind.lower()}
