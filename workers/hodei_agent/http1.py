"""One keep-alive HTTP/1.1 connection.

`http.client` would do, but it brings the e-mail parser: a third of the agent's start-up. This is what the
protocol needs: requests with a known length, answers with a length, in chunks or until the end.
"""

from __future__ import annotations

import socket
import time
from typing import Callable

from hodei_agent.settings import Server

CONNECT_TIMEOUT_S = 5.0
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024


class BadAnswer(ConnectionError):
    """What came back is not an HTTP answer, or not a whole one."""


class Connection:
    """A connection to the server, opened when needed and again after any failure. For one thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket: socket.socket | None = None
        self._received = b""
        self._deadline = 0.0
        host = f"[{server.host}]" if ":" in server.host else server.host
        self._host_header = f"{host}:{server.port}".encode()

    def request(
        self,
        method: str,
        path: str,
        headers: bytes,
        body: bytes,
        timeout_s: float,
        on_sent: Callable[[], object] | None = None,
    ) -> tuple[int, bytes]:
        """Send a request and return the answer's status and body. Raises OSError; then nothing is known.

        A kept connection that the server has closed meanwhile is replaced at once: each call of the
        protocol may be repeated. `on_sent` is called between sending and waiting.
        """
        head = b"%s %s HTTP/1.1\r\nHost: %s\r\n%s" % (
            method.encode(),
            (self._server.base_path + path).encode(),
            self._host_header,
            headers,
        )
        if method != "GET":
            head += b"Content-Length: %d\r\n" % len(body)
        message = head + b"\r\n" + body
        reused = self._socket is not None
        try:
            return self._exchange(message, timeout_s, on_sent)
        except socket.timeout:
            self.close()
            raise
        except OSError:
            unanswered = not self._received
            self.close()
            if not (reused and unanswered):
                raise
        try:
            return self._exchange(message, timeout_s, on_sent)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(
        self, message: bytes, timeout_s: float, on_sent: Callable[[], object] | None
    ) -> tuple[int, bytes]:
        self._received = b""
        if self._socket is None:
            self._socket = self._open(min(CONNECT_TIMEOUT_S, timeout_s))
        self._deadline = time.monotonic() + timeout_s
        self._socket.settimeout(timeout_s)
        self._socket.sendall(message)
        if on_sent is not None:
            on_sent()
        return self._answer()

    def _open(self, timeout_s: float) -> socket.socket:
        host = self._server.host
        # As bytes, because for text the resolver imports the IDNA codec.
        address = (host.encode("ascii") if host.isascii() else host, self._server.port)
        opened = socket.create_connection(address, timeout_s)  # type: ignore[arg-type]
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._server.tls:
            import ssl

            return ssl.create_default_context().wrap_socket(opened, server_hostname=host)
        return opened

    def _answer(self) -> tuple[int, bytes]:
        while True:
            lines = self._until(b"\r\n\r\n").split(b"\r\n")
            try:
                version, code = lines[0].split(None, 2)[:2]
                status = int(code)
            except ValueError:
                raise BadAnswer("the server's answer is not HTTP") from None
            if status >= 200:
                break
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip().lower()
        length = headers.get(b"content-length", b"")
        keep = version == b"HTTP/1.1" and headers.get(b"connection") != b"close"
        if status in (204, 304):
            body = b""
        elif b"chunked" in headers.get(b"transfer-encoding", b""):
            body = self._chunks()
        elif length.isdigit():
            body = self._exactly(int(length))
        else:
            body, keep = self._rest(), False
        if not keep:
            self.close()
        return status, body

    def _receive(self) -> bytes:
        assert self._socket is not None
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise socket.timeout("the answer did not come in time")
        self._socket.settimeout(remaining)
        return self._socket.recv(256 * 1024)

    def _more(self) -> None:
        data = self._receive()
        if not data:
            raise BadAnswer("the server closed the connection before its answer was whole")
        self._received += data

    def _until(self, mark: bytes) -> bytes:
        while True:
            at = self._received.find(mark)
            if at >= 0:
                head, self._received = self._received[:at], self._received[at + len(mark) :]
                return head
            if len(self._received) > MAX_HEAD_BYTES:
                raise BadAnswer("the server's answer has a head without an end")
            self._more()

    def _exactly(self, size: int) -> bytes:
        if size > MAX_BODY_BYTES:
            raise BadAnswer("the server's answer is too large")
        parts, have = [self._received], len(self._received)
        while have < size:
            data = self._receive()
            if not data:
                raise BadAnswer("the server closed the connection before its answer was whole")
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._received = whole[size:]
        return whole[:size]

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            try:
                size = int(self._until(b"\r\n").partition(b";")[0], 16)
            except ValueError:
                raise BadAnswer("the server's answer has a broken chunk") from None
            if size == 0:
                while self._until(b"\r\n"):
                    pass
                return b"".join(parts)
            total += size
            if total > MAX_BODY_BYTES:
                raise BadAnswer("the server's answer is too large")
            parts.append(self._exactly(size))
            self._exactly(2)

    def _rest(self) -> bytes:
        parts = [self._received]
        while True:
            data = self._receive()
            if not data:
                self._received = b""
                return b"".join(parts)
            parts.append(data)
            if sum(map(len, parts)) > MAX_BODY_BYTES:
                raise BadAnswer("the server's answer is too large")
