"""A stand-in for worker-manager: it gives one job to whoever registers, and keeps what comes back."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hodei_agent import frames

EXECUTION_ID = "00000000-0000-7000-8000-00000000e8ec"


class StandIn:
    """Listens on a free port of ``host``; ``finished`` is set when a worker has said goodbye."""

    def __init__(self, host: str, definition: dict[str, Any]) -> None:
        self.definition = definition
        self.calls: list[str] = []
        self.registered: list[dict[str, Any]] = []
        self.output = b""
        self.result: dict[str, Any] = {}
        self.messages: list[dict[str, Any]] = [self._run_message()]
        self.changed = threading.Condition()
        self.started = threading.Event()
        self.finished = threading.Event()
        self._server = ThreadingHTTPServer((host, 0), type("Handler", (_Handler,), {"stand_in": self}))
        self._server.daemon_threads = True
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def send(self, message: dict[str, Any]) -> None:
        with self.changed:
            self.messages.append({"seq": len(self.messages) + 1, **message})
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.finished.set()
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        route, _, query = path.removeprefix("/api/v1/agent/").partition("?")
        name = route.rpartition("/")[2]
        self.calls.append(name)
        if name == "register":
            self.registered.append(json.loads(body))
            return {"heartbeat_interval_s": 0.2, "lease_s": 60, "poll_s": 5, "max_jobs": 1, "log": {}}
        if name == "inbox":
            return {"messages": self._inbox(int(query.partition("after=")[2].partition("&")[0] or 0))}
        if name == "frames":
            return {"acknowledged": self._keep(body)}
        if name == "started":
            self.started.set()
        if name == "result":
            self.result = json.loads(body)
        if name == "goodbye":
            self.finished.set()
        return {"lease_s": 60, "stale": []}

    def _inbox(self, after: int) -> list[dict[str, Any]]:
        with self.changed:
            self.changed.wait_for(lambda: len(self.messages) > after or self.finished.is_set(), timeout=5)
            return self.messages[after:]

    def _keep(self, body: bytes) -> int:
        last = 0
        for frame in frames.split(body):
            plain = frames.plain_payload(frame.codec, frame.payload, frame.plain_size, frame.crc32)
            self.output += b"".join(segment.data for segment in frames.segments_in(plain))
            last = frame.seq
        return last

    def _run_message(self) -> dict[str, Any]:
        execution = {
            "execution_id": EXECUTION_ID,
            "job_id": "00000000-0000-7000-8000-000000000001",
            "attempt": 1,
            "fence": 1,
            "shell": None,
            "script": None,
            "argv": None,
            "args": [],
            "env": {},
            "secrets": {},
            "timeout_s": None,
            "idle_s": None,
            "grace_s": 1.0,
            "log_max_bytes": 1 << 20,
        }
        return {"seq": 1, "kind": "run", "execution": execution | self.definition}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = json.dumps(self.stand_in.answer(self.path, body)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass
