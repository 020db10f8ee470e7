"""An HTTP server that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

JOB_ID = "8c5de1f0-3f37-4d6c-9a53-6f1f3a1d2b4e"


@dataclass(kw_only=True)
class Answer:
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class StandIn:
    """Answers of a path are given in turn; the last one is repeated."""

    def __init__(self, port: int = 0) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Answer]] = {}
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in._answer(self)

            do_POST = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, method: str, path: str, *answers: Any) -> None:
        """Bodies stand for answers with status 200."""
        self._answers[method, path] = [a if isinstance(a, Answer) else Answer(body=a) for a in answers]

    def requests(self, method: str, path: str) -> list[Asked]:
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else None
        headers = {name.lower(): value for name, value in request.headers.items()}
        query = dict(parse_qsl(address.query))
        self.asked.append(
            Asked(method=request.command, path=address.path, query=query, headers=headers, body=body)
        )
        answers = self._answers.get((request.command, address.path))
        if answers is None:
            answer = Answer(
                status=404, body=problem(404, "not_found", "There is no such thing. Check the id.")
            )
        else:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        content = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        request.send_response(answer.status)
        request.send_header(
            "Content-Type", "text/html" if isinstance(answer.body, str) else "application/json"
        )
        request.send_header("Content-Length", str(len(content)))
        for name, value in answer.headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)


def problem(status: int, code: str, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail, **more}


def job(status: str = "succeeded", **more: Any) -> dict[str, Any]:
    codes = ["pending", "assigned", "scheduled", "running", "succeeded", "failed", "cancelled", "timeout"]
    return {
        "id": JOB_ID,
        "name": "hello",
        "command": "echo hello",
        "provider": "docker",
        "status": status,
        "status_code": codes.index(status),
        "attempts": 1,
        "max_attempts": 1,
        "provider_id": "11111111-1111-1111-1111-111111111111",
        "provider_type": "docker",
        "worker_id": "0b4f",
        "exit_code": {"succeeded": 0, "failed": 7}.get(status),
        "error": None,
        "created_at": "2026-05-01T12:00:00.000000Z",
        "started_at": "2026-05-01T12:00:01.000000Z",
        "completed_at": "2026-05-01T12:00:04.200000Z",
        "log": {"entries": 2, "bytes": 12, "complete": True},
        "a_field_of_tomorrow": {"is": "ignored"},
        **more,
    }


def entry(seq: int, text: str, stream: str = "stdout", **more: Any) -> dict[str, Any]:
    return {
        "seq": seq,
        "attempt": 1,
        "stream": stream,
        "at": "2026-05-01T12:00:02.000000Z",
        "text": text,
        **more,
    }


LOG_END = {"Hodei-Log-End": "true"}


def events(*told: dict[str, Any] | str, status: str | None = "succeeded", **ending: Any) -> str:
    """A log's stream of events: entries, ``"attempt N"``, and the end, unless ``status`` is None."""
    text, place = "retry: 500\n\n", "0-0"
    for item in told:
        if isinstance(item, str):
            number = int(item.removeprefix("attempt "))
            place, name = f"{number}-0", "event: attempt\n"
            item = {"attempt": number}
        else:
            place, name = f"{item['attempt']}-{item['seq']}", ""
        text += f"{name}id: {place}\ndata: {json.dumps(item, ensure_ascii=False)}\n\n"
    if status is not None:
        document = {"status": status, "execution_status": "completed", "log": {"complete": True}} | ending
        text += f"event: end\nid: {place}\ndata: {json.dumps(document)}\n\n"
    return text
