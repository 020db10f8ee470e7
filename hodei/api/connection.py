"""A client's connection: the head of its request as it comes, and how slowly the body may.

A thread is worth more than a connection, so none is given to a request before its head is whole; and a body that
comes slower than any honest network is given up, so that no client keeps a thread by sending almost nothing.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn

from hodei.api.listeners import AGENT_PREFIX
from hodei.errors import RequestTooSlow

HEAD_S = 5.0
"""From a connection's opening, or the first byte of a later request, to the end of the head. Clients send a head at
once; two lost packets cost three seconds."""
MAX_HEAD_BYTES = 32 * 1024
"""Several times what a browser with many cookies sends."""
BODY_GRACE_S = 5.0
MIN_BODY_BYTES_PER_S = 16 * 1024
"""The least that a body may come at, on average from its beginning and after the grace. The agent itself gives a
call up after 15 s, so what is slower than this gets nowhere in any case."""

_END = b"\r\n\r\n"
_PIECE = 16 * 1024
_AGENTS = AGENT_PREFIX.encode()


class Arrived(Enum):
    """What there is of a request's head."""

    NOTHING = auto()
    PART = auto()
    WHOLE = auto()
    TOO_LONG = auto()
    GONE = auto()
    """The client left before its head was whole."""


class Connection(TConn):
    """One client. Until :meth:`hand_over` the loop alone uses it, and its socket never blocks.

    ``timeout`` is the end, by the monotonic clock, of whatever the connection is ``among``.
    """

    def __init__(self, config: Config, opened: socket.socket, client: Any, server: Any) -> None:
        super().__init__(config, opened, client, server)
        self.parser = RequestParser(config, opened, client)
        self.parser.unreader = self._reader = _Reader(opened, self._end_after_this)
        self.initialized = True  # nothing is left for a thread to find out
        self.agents_only = False
        self.for_agents = False
        self.among: deque[Connection] | None = None
        self.drained = 0
        self._head = bytearray()

    @property
    def address(self) -> str:
        """The client's, without its port."""
        return str(self.client[0])

    @property
    def has_begun(self) -> bool:
        """Whether a part of a head has come."""
        return bool(self._head)

    def receive(self) -> Arrived:
        """Take what has come, without waiting."""
        try:
            data = self.sock.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return Arrived.PART if self._head else Arrived.NOTHING
        except OSError:
            return Arrived.GONE
        return self._take(data) if data else Arrived.GONE

    def receive_read_ahead(self) -> Arrived:
        """Take what the request before this one read too much."""
        data = self._reader.take_buffered()
        return self._take(data) if data else Arrived.NOTHING

    def hand_over(self) -> None:
        """Give the whole head to the parser, for a thread."""
        line = self._head.find(b"\r\n")
        self.for_agents = self.agents_only or self._head.find(_AGENTS, 0, line) >= 0
        self._reader.unread(bytes(self._head))
        self._reader.begin()
        self._head.clear()

    def discard(self) -> bool:
        """Drop what has come. False when nothing more will."""
        try:
            data = self.sock.recv(4 * _PIECE)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        self.drained += len(data)
        return bool(data)

    def _end_after_this(self) -> None:
        if self.parser.mesg is not None:
            self.parser.mesg.force_close()

    def _take(self, data: bytes) -> Arrived:
        seen = max(0, len(self._head) - len(_END) + 1)
        self._head += data
        while self._head.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request mean nothing
            del self._head[:2]
            seen = 0
        if self._head.find(_END, seen) >= 0:
            return Arrived.WHOLE
        if len(self._head) > MAX_HEAD_BYTES:
            return Arrived.TOO_LONG
        return Arrived.PART if self._head else Arrived.NOTHING


class _Reader(SocketUnreader):
    """Reads a request's body for a thread, which waits no longer than the body's rate allows. ``given_up`` is called
    when it was too slow, before the answer is begun."""

    def __init__(self, opened: socket.socket, given_up: Callable[[], None]) -> None:
        super().__init__(opened)
        self._given_up = given_up
        self._until: float | None = None

    def begin(self) -> None:
        """A new request: its body begins when it is first waited for."""
        self._until = None

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next piece. Raises RequestTooSlow."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + BODY_GRACE_S
        if now >= self._until:
            self._given_up()
            raise RequestTooSlow
        outer = self.sock.gettimeout()
        left = self._until - now
        self.sock.settimeout(left if outer is None else min(left, outer))
        try:
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            self._given_up()
            raise RequestTooSlow from None
        finally:
            self.sock.settimeout(outer)
        self._until += len(data) / MIN_BODY_BYTES_PER_S
        return data
