"""gunicorn's threaded worker as the whole server: one process, no master beside it.

A master would cost its own memory and a fork under open connections; what restarts a process is whoever
started it. Threads are made when they are needed: a thousand waiting agents cost nothing until they come.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

import structlog
from gunicorn.config import Config
from gunicorn.workers import gthread

from hodei.api import refusals
from hodei.api.admission import Admission, allow_descriptors
from hodei.api.connection import HEAD_S, MAX_HEAD_BYTES, Arrived, Connection
from hodei.api.listeners import Listener
from hodei.errors import RequestTooSlow

KEEP_ALIVE_S = 75
MAX_LINE_BYTES = 8190
"""Of the address: lists may be narrowed by many labels."""
GRACE_S = 1.2
"""How long answers that are under way may take after a SIGTERM."""
LINGER_S = 0.2
"""How long an idle connection is kept after a SIGTERM, for a request that is already on its way."""
CONNECTIONS_PER_THREAD = 4
SPARE_CONNECTIONS = 500
"""An agent holds up to four connections, of which one at a time waits in a thread; the rest is for people."""
SPARE_DESCRIPTORS = 500
KEPT_THREADS = 64
"""So many threads, or an eighth of them where there are few, never serve agents."""
ANSWER_S = 15.0
"""How long an agent may take to read an answer: its own patience for a call."""
LEFTOVER_S = 0.5
"""How long a thread looks for the rest of a body that nobody wanted, before the connection is given up."""
LAST_WORDS_S = 2.0
LAST_WORDS_BYTES = 5 * 1024**2
"""How long, and how much, a client may still send after our last answer to it."""

log = structlog.get_logger("hodei.server")
gthread.STOP_KEEPALIVE_LINGER = LINGER_S


class Server(gthread.ThreadWorker):
    """Serves ``wsgi`` on open sockets until SIGTERM or SIGINT.

    A request gets a thread when its head is whole. Agents' requests, most of which wait, never have all threads: a
    share is kept for everybody else's. ``stopping`` is called once, at the start of the end: it should wake
    whatever waits inside a request.
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
        allowed = allow_descriptors(config.worker_connections + SPARE_DESCRIPTORS)
        sockets = [listener.socket for listener in listeners]
        super().__init__(0, os.getppid(), sockets, _Loaded(wsgi), config.timeout, config, _Log())
        self._stopping = stopping
        self._told = False
        self._listeners = {listener.socket: listener for listener in listeners}
        self._most = min(config.worker_connections, max(threads, allowed - SPARE_DESCRIPTORS))
        self.worker_connections: int = sys.maxsize  # we make room ourselves instead of accepting nobody
        self._added: SimpleQueue[Listener] = SimpleQueue()
        self._admission = Admission(self._most)
        self._lingering: deque[Connection] = deque()
        self._agents_waiting: deque[Connection] = deque()
        self._agents_served = 0
        self._agents_share = threads - min(KEPT_THREADS, max(1, threads // 8))

    def serve(self) -> None:
        """Answer until told to stop. Returns when the last answer is out, or the grace has passed."""
        self.pid = os.getpid()
        self.init_process()

    def add(self, listener: Listener) -> None:
        """Listen there, too, within a second. From any thread."""
        self._added.put(listener)

    def notify(self) -> None:
        """Called in each round of the loop. There is no master to tell; what was added meanwhile is listened on from here."""
        while not self._added.empty():
            listener = self._added.get_nowait()
            self._listeners[listener.socket] = listener
            self.sockets.append(listener.socket)
            if self._accepting:
                listener.socket.setblocking(False)
                self.poller.register(listener.socket, selectors.EVENT_READ, self.accept)

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
            for silent in [conn for conn in self.pending_conns if not conn.has_begun]:
                self._withdraw(silent)
                self._drop(silent)
            self._stopping()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """While stopping, look often whether it is over."""
        super().wait_for_and_dispatch_events(timeout if self.alive else min(timeout, 0.05))

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, and its request when it is there already."""
        try:
            opened, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                if not self._make_room():
                    time.sleep(0.01)  # the waiting connection makes this be called again at once
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        conn = Connection(self.cfg, opened, client, listener.getsockname())
        known = self._listeners[listener]
        conn.agents_only = known.agents_only
        own = str(conn.server[0])
        if (self.nr_conns >= self._most and not self._make_room()) or not self._admission.enter(
            conn.address, own=own, own_addresses=known.agents_only and not known.shared
        ):
            refusals.write(opened, refusals.TOO_MANY)
            conn.close()
            return
        self.nr_conns += 1
        self._go_on(conn, conn.receive())

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        """The thread is free again; the connection waits for its next request, or ends."""
        if conn.for_agents:
            self._agents_served -= 1
            if self._agents_waiting:
                self.enqueue_req(self._agents_waiting.popleft())
        if fs.cancelled() or fs.exception() is not None:
            self._drop(conn)
        elif fs.result():
            conn.sock.setblocking(False)
            self._go_on(conn, conn.receive_read_ahead(), idle=True)
        else:
            self._linger(conn)

    def enqueue_req(self, conn: Connection) -> None:
        """Give the request a thread, or a place in the agents' queue when they have their share."""
        if conn.for_agents:
            if self._agents_served >= self._agents_share:
                self._agents_waiting.append(conn)
                return
            self._agents_served += 1
        super().enqueue_req(conn)

    def murder_pending(self) -> None:
        """End what took too long to say what it wants, or to leave."""
        now = time.monotonic()
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            conn = self.pending_conns[0]
            self._withdraw(conn)
            if conn.has_begun:
                self._refuse(
                    conn, 408, "request_timeout", f"The request had no whole head after {HEAD_S:g} s."
                )
            else:
                self._drop(conn)
        while self._lingering and self._lingering[0].timeout <= now:
            conn = self._lingering[0]
            self._withdraw(conn)
            self._drop(conn)

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 (the base class's signature)
        """Close what was idle for too long, or everything that is idle."""
        now = time.monotonic()
        while self.keepalived_conns and (force or self.keepalived_conns[0].timeout <= now):
            conn = self.keepalived_conns[0]
            self._withdraw(conn)
            self._drop(conn)

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """In a thread: an agent that does not read its answer does not keep the thread."""
        if conn.for_agents:
            conn.sock.settimeout(ANSWER_S)
        try:
            return bool(super().handle_request(req, conn))
        except TimeoutError:
            raise StopIteration from None

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """In a thread: answer what was not even HTTP, in the form of every other error."""
        refusals.write(client, refusals.answer_to(exc))

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:  # noqa: FBT001 (the base class's signature)
        """In a thread: whether there may be another request. What is left of a body is thrown away if it is here."""
        try:
            return keepalive and bool(conn.parser.finish_body(deadline=time.monotonic() + LEFTOVER_S))
        except RequestTooSlow:
            return False

    def _go_on(self, conn: Connection, arrived: Arrived, *, idle: bool = False) -> None:
        """What comes next for a connection that is in no queue."""
        if arrived is Arrived.WHOLE:
            conn.hand_over()
            self.enqueue_req(conn)
        elif arrived is Arrived.GONE:
            self._drop(conn)
        elif arrived is Arrived.TOO_LONG:
            self._refuse(
                conn, 431, "bad_request", f"The request's head is larger than {MAX_HEAD_BYTES} bytes."
            )
        elif idle and arrived is Arrived.NOTHING:
            lasts_s = KEEP_ALIVE_S if self.alive else LINGER_S
            self._await(conn, self.keepalived_conns, lasts_s, self._on_readable)
        else:
            self._await(conn, self.pending_conns, HEAD_S, self._on_readable)

    def _on_readable(self, conn: Connection, _socket: socket.socket) -> None:
        if conn.among is None:
            return  # it was given up for another one that came in the same moment
        arrived = conn.receive()
        began = arrived is Arrived.PART and conn.among is self.keepalived_conns
        if began or arrived not in (Arrived.PART, Arrived.NOTHING):
            self._withdraw(conn)
            self._go_on(conn, arrived)

    def _await(
        self,
        conn: Connection,
        among: deque[Connection],
        lasts_s: float,
        then: Callable[[Connection, socket.socket], None],
    ) -> None:
        """Let the loop watch the connection; those of one queue all last equally long, so the first ends first."""
        conn.timeout = time.monotonic() + lasts_s
        conn.among = among
        among.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(then, conn))

    def _withdraw(self, conn: Connection) -> None:
        """Take it out of its queue."""
        if conn.among is not None:
            conn.among.remove(conn)
            conn.among = None
            self.poller.unregister(conn.sock)

    def _refuse(self, conn: Connection, status: int, code: str, detail: str) -> None:
        refusals.write(conn.sock, refusals.answer(status, code, detail))
        self._linger(conn)

    def _linger(self, conn: Connection) -> None:
        """Our last answer is out. Closing now could destroy it on its way, if the client still sends (RFC 9112, 9.6)."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
        else:
            self._await(conn, self._lingering, LAST_WORDS_S if self.alive else LINGER_S, self._on_last_words)

    def _on_last_words(self, conn: Connection, _socket: socket.socket) -> None:
        if conn.among is not None and (not conn.discard() or conn.drained > LAST_WORDS_BYTES):
            self._withdraw(conn)
            self._drop(conn)

    def _make_room(self) -> bool:
        """Give up a connection that has asked for nothing yet: the one that has been slowest about it."""
        for among in (self.pending_conns, self._lingering, self.keepalived_conns):
            if among:
                conn = among[0]
                self._withdraw(conn)
                self._drop(conn)
                return True
        return False

    def _drop(self, conn: Connection) -> None:
        self.nr_conns -= 1
        self._admission.leave(conn.address)
        conn.close()


def _config(threads: int) -> Config:
    config = Config()
    config.set("worker_class", "gthread")
    config.set("threads", threads)
    config.set("worker_connections", threads * CONNECTIONS_PER_THREAD + SPARE_CONNECTIONS)
    config.set("keepalive", KEEP_ALIVE_S)
    config.set("limit_request_line", MAX_LINE_BYTES)
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
