"""An API server that says what a test tells it to, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


class ScriptedServer:
    """``answers`` are used up in order, the last one again and again; ``asked`` are the requests, each with its headers."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.changed = threading.Condition()
        self.over = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = {
                    "method": self.command,
                    "path": self.path,
                    "headers": dict(self.headers),
                    "body": json.loads(body or "null"),
                    "connection": self.client_address,
                }
                with script.changed:
                    script.asked.append(request)
                    answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                    script.changed.notify_all()
                answer(self, request)

            do_POST = do_DELETE = do_PATCH = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def wait_for(self, count: int, within_s: float = 15.0) -> list[dict[str, Any]]:
        """The requests, once there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= count, within_s), self.asked
            return list(self.asked)

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def scripted(*answers: Answer) -> Iterator[ScriptedServer]:
    server = ScriptedServer(*answers)
    try:
        yield server
    finally:
        server.close()


def says(document: dict[str, Any], status: int = 200, **headers: str) -> Answer:
    """Answers with this document."""

    def answer(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def refuses(status: int, reason: str, message: str = "no", **headers: str) -> Answer:
    """Answers with a ``Status``."""
    return says({"kind": "Status", "code": status, "reason": reason, "message": message}, status, **headers)


def hangs_up(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
    """Closes the connection without a word."""
    handler.close_connection = True
    handler.connection.close()


def streams(*events: dict[str, Any], then: Callable[[], object] = lambda: None) -> Answer:
    """Answers a watch with these events, waits for ``then`` to return, and ends it."""

    def answer(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for event in events:
            line = json.dumps(event).encode() + b"\n"
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        handler.wfile.flush()
        then()
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def kubeconfig(folder: Path, server: str, **user: Any) -> Path:
    """A kubeconfig with one context."""
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(document))
    return path
