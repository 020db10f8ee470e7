"""The API over HTTPS on loopback: connections that can be refused, cut and resumed."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from support.k8s_stand_in import refusals, requests
from support.k8s_stand_in.accounts import Accounts
from support.k8s_stand_in.api import Answer, Api
from support.k8s_stand_in.faults import ConnectionCut, Faults
from support.k8s_stand_in.requests import Request

RESET = struct.pack("ii", 1, 0)
IDLE_S = 120.0


@dataclass(frozen=True)
class Entry:
    """One request that was answered, for tests that look at what was asked."""

    user: str
    verb: str
    resource: str
    name: str
    code: int


class Server:
    """``start`` and ``stop`` once; ``go_away`` and ``come_back`` as often as a test likes, on the same port."""

    def __init__(
        self, api: Api, accounts: Accounts, faults: Faults, context: ssl.SSLContext, port: int = 0
    ) -> None:
        self.api = api
        self.accounts = accounts
        self.faults = faults
        self.port = port
        self.journal: list[Entry] = []
        self._context = context
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), name="k8s-api-accept")
        self._accepting.start()

    def go_away(self) -> None:
        """Every connection is reset, and new ones are refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        if self._accepting is not None:
            self._accepting.join()
        self.reset_connections()

    def come_back(self) -> None:
        self.start()

    def reset_connections(self) -> None:
        """As when a load balancer in front of the API is restarted."""
        with self._lock:
            for connection in self._open:
                _reset(connection)

    def stop(self) -> None:
        self.go_away()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(10)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True, name="k8s-api")
            with self._lock:
                self._threads = {one for one in self._threads if one.is_alive()} | {thread}
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            secured = self._context.wrap_socket(connection, server_side=True)
        except (OSError, ValueError):
            connection.close()
            return
        with self._lock:
            self._open.add(secured)
        try:
            _Handler(secured, ("127.0.0.1", 0), self)  # type: ignore[arg-type]
        except (OSError, ValueError, ConnectionCut):
            pass
        finally:
            with self._lock:
                self._open.discard(secured)
            secured.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server  # type: ignore[assignment]

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request: Request | None = None
        try:
            user = self.server.accounts.user_of(self.headers.get("Authorization", ""))
            if user is None:
                raise refusals.unauthorized()
            request = requests.read(
                user=user,
                method=self.command,
                target=self.path,
                content_type=self.headers.get("Content-Type", ""),
                accept=self.headers.get("Accept", ""),
                body=body,
            )
            self.server.faults.before(request)
            answer = self.server.api.answer(request)
            self._note(request, answer.code)
            self.server.faults.after(request)
        except refusals.Refusal as refusal:
            if request is not None:
                self._note(request, refusal.code)
            self._refuse(refusal)
            return
        except ConnectionCut:
            _reset(self.connection)
            raise
        self._answer(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def _note(self, request: Request, code: int) -> None:
        if request.resource is None:
            return
        sub = f"/{request.subresource}" if request.subresource else ""
        resource = f"{request.resource.plural}{sub}"
        self.server.journal.append(Entry(request.user.name, request.verb, resource, request.name, code))

    def _refuse(self, refusal: refusals.Refusal) -> None:
        headers = {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s else {}
        self._send(refusal.code, json.dumps(refusal.status()).encode(), headers)

    def _answer(self, answer: Answer) -> None:
        warnings = [f'299 - "{text.replace(chr(34), chr(92) + chr(34))}"' for text in answer.warnings]
        if answer.events is not None:
            self._begin_stream("application/json")
            for event in answer.events:
                if event is not None:
                    self._chunk(json.dumps(event).encode() + b"\n")
                elif self._left():
                    return
            self._end_stream()
        elif answer.text is not None:
            self._begin_stream("text/plain")
            for block in answer.text:
                if block:
                    self._chunk(block)
                elif self._left():
                    return
            self._end_stream()
        else:
            self._send(answer.code, json.dumps(answer.document).encode(), {}, warnings)

    def _send(self, code: int, body: bytes, headers: dict[str, str], warnings: Iterable[str] = ()) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        for text in warnings:
            self.send_header("Warning", text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin_stream(self, media: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _chunk(self, block: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))

    def _end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def _left(self) -> bool:
        """Whether the client of a stream has hung up: it sends nothing, so there is something to read only at its end."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        self.close_connection = bool(readable)
        return bool(readable)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _reset(connection: socket.socket) -> None:
    """End it at once; whoever reads from it in another thread wakes up. The TLS layer is not asked: it may be in use."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
