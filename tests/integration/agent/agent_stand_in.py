"""A stand-in for worker-manager's agent routes, over real HTTP, with faults on demand.

It keeps the protocol's rules (fences, one-time token, acknowledgements) in memory, so that the agent under
test is the real one, a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from hodei_agent import frames

TOKEN = "one-time-token-of-the-test"
WORKER_ID = "0b8f6d0e-0000-4000-8000-000000000001"


class Call(NamedTuple):
    """A call as it came."""

    at: float
    method: str
    route: str
    token: str
    body: Any


class Fault(NamedTuple):
    """What to do instead of answering a route. `do`: before (drop unseen), after (do it, lose the answer), nonsense
    (answer what no platform does), or a status, with a problem's `code`; without one with the page of a proxy.
    """

    route: str
    do: str | int
    code: str


class StandIn:
    """The platform's side. Every attribute is read under `changed`."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.messages: list[dict[str, Any]] = []
        self.frames: dict[str, dict[int, frames.Frame]] = {}
        self.repeated_frames = 0
        self.results: dict[str, dict[str, Any]] = {}
        self.session_token: str | None = None
        self.answer_registration: dict[str, Any] = {
            "worker_id": WORKER_ID,
            "heartbeat_interval_s": 0.1,
            "lease_s": 60.0,
            "poll_s": 5.0,
            "max_jobs": 1,
            "log": {"spool_bytes": 256 * 1024 * 1024, "max_bytes": 1024**3},
        }
        self.lease_s = 60.0
        self.stale: list[str] = []
        self.delay_s: dict[str, float] = {}
        self.gets_whole_log = True
        self.takes_frames = True
        self.largest_body = 4 * 1024 * 1024
        self.says_413 = True
        """What a proxy lets through, and whether it says so, or closes the connection."""
        self.too_large = 0
        self._server: _Server | None = None
        self.port = 0

    # Steering

    def open(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Be away: refuse connections and cut those that are open."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()
            server.cut()

    def fail(self, route: str, do: str | int, *, times: int = 1, code: str = "of_the_test") -> None:
        """Answer the next calls of a route with a fault."""
        with self.changed:
            self.faults += [Fault(route, do, code)] * times

    def send(self, kind: str, **fields: Any) -> None:
        """Put a message into the inbox."""
        with self.changed:
            self.messages.append({"seq": len(self.messages) + 1, "kind": kind, **fields})
            self.changed.notify_all()

    def run(self, execution_id: str = "e-1", **fields: Any) -> None:
        """Send a job."""
        execution = {
            "execution_id": execution_id,
            "job_id": "j-1",
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
            "grace_s": 5.0,
            "log_max_bytes": 1024**3,
        }
        self.send("run", execution={**execution, **fields})

    def wait_for(self, fact: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """Wait until the fact is one; return it."""
        with self.changed:
            found = self.changed.wait_for(fact, timeout_s)
            assert found, f"did not become true in {timeout_s} s; the last calls: {self.calls[-8:]}"
            return found

    # Looking

    def count(self, route: str) -> int:
        """How many calls of a route came."""
        return sum(call.route == route for call in self.calls)

    def segments(self, execution_id: str = "e-1") -> list[frames.Segment]:
        """The log as it was sent, checked: frames without a gap, entries numbered through, times not
        falling.
        """
        found: list[frames.Segment] = []
        entries, last_at = 0, 0
        stored = self.frames.get(execution_id, {})
        for expected, (seq, frame) in enumerate(sorted(stored.items()), start=1):
            assert seq == expected
            assert frame.first_entry == entries + 1
            plain = frames.plain_payload(frame.codec, frame.payload, frame.plain_size, frame.crc32)
            assert len(plain) <= 1024 * 1024
            segments = list(frames.segments_in(plain))
            assert frame.entries == sum(len(frames.entries_in(segment)) for segment in segments)
            entries += frame.entries
            for segment in segments:
                assert segment.at_us >= last_at
                assert len(segment.data) <= 64 * 1024
                last_at = segment.at_us
            found += segments
        return found

    def output(self, stream: int, execution_id: str = "e-1") -> bytes:
        """All bytes of a stream."""
        return b"".join(s.data for s in self.segments(execution_id) if s.stream == stream)

    # Answering

    def answer(self, handler: _Handler, method: str, body: bytes) -> None:
        url = urlsplit(handler.path)
        parts = url.path.removeprefix("/api/v1/agent/").split("/")
        route = parts[-1]
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        token = handler.headers["Authorization"].removeprefix("Bearer ")
        document = json.loads(body) if body and route != "frames" else body
        with self.changed:
            self.calls.append(Call(time.monotonic(), method, route, token, document))
            fault = next((f for f in self.faults if f.route == route), None)
            if fault is not None:
                self.faults.remove(fault)
            self.changed.notify_all()
        if self.delay_s.get(route):
            time.sleep(self.delay_s[route])
        if fault is not None and fault.do == "before":
            handler.cut()
            return
        if fault is not None and isinstance(fault.do, int):
            problem = {"code": fault.code, "detail": "a fault of the test"}
            handler.reply(fault.do, problem if fault.code else "<html>Please log in</html>")
            return
        if fault is not None and fault.do == "nonsense":
            handler.reply(200, {"acknowledged": "x", "messages": "x", "stale": 1})
            return
        status, answer = self._act(route, parts, query, token, document)
        with self.changed:
            self.changed.notify_all()
        if fault is not None:
            handler.cut()
            return
        handler.reply(status, answer)

    def _act(
        self, route: str, parts: list[str], query: dict[str, str], token: str, body: Any
    ) -> tuple[int, dict[str, Any]]:
        with self.changed:
            if route == "register":
                if token != TOKEN or self.session_token not in (None, body["session_token"]):
                    return 401, {"code": "token_spent"}
                self.session_token = body["session_token"]
                return 200, self.answer_registration
            if token != self.session_token:
                return 401, {"code": "unauthorized"}
            if route == "inbox":
                after, deadline = int(query["after"]), float(query["wait_s"])
                self.changed.wait_for(lambda: len(self.messages) > after or self._server is None, deadline)
                return 200, {"messages": self.messages[after:]}
            if route == "heartbeat":
                return 200, {"lease_s": self.lease_s, "stale": self.stale}
            if route == "frames":
                stored = self.frames.setdefault(parts[1], {})
                assert len(body) <= 4 * 1024 * 1024
                for frame in frames.split(body):
                    self.repeated_frames += frame.seq in stored
                    if self.takes_frames and frame.seq == len(stored) + 1:
                        stored[frame.seq] = frame
                return 200, {
                    "acknowledged": len(stored),
                    "entries": sum(frame.entries for frame in stored.values()),
                    "bytes": sum(frame.output_size for frame in stored.values()),
                }
            if route == "result":
                assert body["last_frame"] == len(self.frames.get(parts[1], {})) or not self.gets_whole_log
                self.results[parts[1]] = body
            return 200, {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], stand_in: StandIn) -> None:
        self.stand_in = stand_in
        self.open_sockets: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def cut(self) -> None:
        for connection in list(self.open_sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """Connections that break are the point here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open_sockets.add(self.connection)

    def finish(self) -> None:
        self.server.open_sockets.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self.server.stand_in.answer(self, "GET", b"")

    def do_POST(self) -> None:
        size, stand_in = int(self.headers["Content-Length"]), self.server.stand_in
        if size > stand_in.largest_body:
            with stand_in.changed:
                stand_in.too_large += 1
            if not stand_in.says_413:
                self.cut()
                return
        body = self.rfile.read(size)
        if size > stand_in.largest_body:
            self.reply(413, {"code": "too_large"})
        elif len(body) == size:
            stand_in.answer(self, "POST", body)

    def reply(self, status: int, document: dict[str, Any] | str) -> None:
        data = (document if isinstance(document, str) else json.dumps(document)).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        self.wfile.write(head.encode() + data)

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Quiet."""
