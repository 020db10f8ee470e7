"""gunicorn's threaded worker as the whole server: one process, no master beside it.

A master would cost its own memory and a fork under open connections; what restarts a process is whoever
started it. Threads are made when they are needed: a thousand waiting agents cost nothing until they come.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from gunicorn import util
from gunicorn.config import Config
from gunicorn.workers import gthread

from hodei.api.listeners import Listener
from hodei.api.problems import problem
from hodei.api.serialise import PROBLEM_TYPE, to_json

KEEP_ALIVE_S = 75
GRACE_S = 1.2
"""How long answers that are under way may take after a SIGTERM."""
LINGER_S = 0.2
"""How long an idle connection is kept after a SIGTERM, for a request that is already on its way."""
SPARE_CONNECTIONS = 2000

log = structlog.get_logger("hodei.server")
gthread.STOP_KEEPALIVE_LINGER = LINGER_S


class Server(gthread.ThreadWorker):
    """Serves ``wsgi`` on open sockets until SIGTERM or SIGINT.

    ``stopping`` is called once, at the start of the end: it should wake whatever waits inside a request.
    """

    def __init__(
        self,
        wsgi: Callable[..., Any],
        listeners: Sequence[Listener],
        *,
        threads: int,
        stopping: Callable[[], None],
    ) -> None:
        config = _config(threads)
        sockets = [listener.socket for listener in listeners]
        super().__init__(0, os.getppid(), sockets, _Loaded(wsgi), config.timeout, config, _Log())
        self._stopping = stopping
        self._told = False

    def serve(self) -> None:
        """Answer until told to stop. Returns when the last answer is out, or the grace has passed."""
        self.pid = os.getpid()
        self.init_process()

    def notify(self) -> None:
        """There is no master to tell."""

    def is_parent_alive(self) -> bool:
        """A server outlives the shell that started it."""
        return True

    def init_signals(self) -> None:
        """SIGTERM and SIGINT stop gracefully; the rest keeps Python's meaning."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
            signal.siginterrupt(number, False)

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 (the base class's signature)
        super().set_accept_enabled(enabled)
        if not self.alive and not self._told:
            self._told = True
            for listening in self.sockets:
                listening.close()
            self._stopping()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer what was not even HTTP, in the form of every other error."""
        status = _STATUS.get(
            type(exc).__name__, 400 if type(exc).__module__ == "gunicorn.http.errors" else 500
        )
        if status == 500:
            log.error("the server failed", exc_info=exc)
        detail = str(exc) if status != 500 else "Something went wrong in the server. Its log says what."
        body = to_json(problem(status, "bad_request" if status < 500 else "internal", detail)).encode()
        head = f"HTTP/1.1 {status} {_REASON[status]}\r\nConnection: close\r\nContent-Type: {PROBLEM_TYPE}\r\n"
        try:
            util.write_nonblock(client, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        except OSError:
            log.debug("the client was gone before its error")


_STATUS = {
    "LimitRequestLine": 414,
    "LimitRequestHeaders": 431,
    "ExpectationFailed": 417,
    "UnsupportedTransferCoding": 501,
}
_REASON = {
    400: "Bad Request",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
}


def _config(threads: int) -> Config:
    config = Config()
    config.set("worker_class", "gthread")
    config.set("threads", threads)
    config.set("worker_connections", threads + SPARE_CONNECTIONS)
    config.set("keepalive", KEEP_ALIVE_S)
    config.set("graceful_timeout", int(GRACE_S) or 1)
    config.set("forwarded_allow_ips", "")
    config.set("forwarder_headers", "")
    return config


class _Loaded:
    """What the worker asks for its application."""

    def __init__(self, wsgi: Callable[..., Any]) -> None:
        self._wsgi = wsgi

    def wsgi(self) -> Callable[..., Any]:
        return self._wsgi


class _Log:
    """gunicorn's lines in our log; its access lines are written by the apps, with the request's id."""

    def debug(self, message: str, *values: Any, **_: Any) -> None:
        log.debug(message % values if values else message)

    def info(self, message: str, *values: Any, **_: Any) -> None:
        log.debug(message % values if values else message)

    def warning(self, message: str, *values: Any, **_: Any) -> None:
        log.warning(message % values if values else message)

    def error(self, message: str, *values: Any, **_: Any) -> None:
        log.error(message % values if values else message)

    critical = error

    def exception(self, message: str, *values: Any, **_: Any) -> None:
        log.exception(message % values if values else message)

    def access(self, *_: Any) -> None:
        return None

    def close_on_exec(self) -> None:
        return None

    def reopen_files(self) -> None:
        return None
