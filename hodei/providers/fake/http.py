"""HTTP/1.1 by hand over asyncio's streams: thousands of kept-alive connections for little CPU."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MAX_HEAD_BYTES = 64 * 1024
_KEPT = 64


class Answer(NamedTuple):
    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object; empty when it is none."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


class Connection:
    """One connection, opened when it is first used and again after it broke."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, timeout_s: float) -> Answer:
        """Send a request and read its answer. Raises OSError (also for a time-out) and closes the connection
        then."""
        try:
            async with asyncio.timeout(timeout_s):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(
                        self._host, self._port, limit=MAX_HEAD_BYTES
                    )
                reader, writer = self._streams
                writer.write(request)
                answer, keep = await _read(reader)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            self.close()
            raise ConnectionError(f"the answer broke off: {error}") from error
        except BaseException:
            self.close()
            raise
        if not keep:
            self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Server:
    """The one server that all agents talk to, with connections that they share for short calls."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"simulated agents speak plain http only, not {url}")
        self._host, self._port = parts.hostname, parts.port or 80
        self._base = f"{parts.path.rstrip('/')}/api/v1/agent/"
        self._name = parts.netloc
        self._idle: list[Connection] = []

    def connect(self) -> Connection:
        """A connection of one's own, for a long poll."""
        return Connection(self._host, self._port)

    def request(self, method: str, path: str, token: str, body: bytes | None, content_type: str) -> bytes:
        head = (
            f"{method} {self._base}{path} HTTP/1.1\r\nHost: {self._name}\r\nAuthorization: Bearer {token}\r\n"
            f"Hodei-Protocol: 1\r\n"
        )
        if body is None:
            return f"{head}\r\n".encode()
        return f"{head}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def ask(self, request: bytes, timeout_s: float) -> Answer:
        connection = self._idle.pop() if self._idle else self.connect()
        answer = await connection.ask(request, timeout_s)
        if len(self._idle) < _KEPT:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


async def _read(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """The answer, and whether the connection stays."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    keep = b"\r\nconnection: close" not in head
    at = head.find(b"\r\ncontent-length:")
    if b"\r\ntransfer-encoding: chunked" in head:
        body = await _chunks(reader)
    elif at >= 0:
        body = await reader.readexactly(int(head[at + 17 : head.index(b"\r\n", at + 17)]))
    elif status in {204, 304}:
        body = b""
    else:
        body, keep = await reader.read(), False
    return Answer(status, body), keep


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        pass
    return b"".join(parts)
