"""Clients that send almost nothing, or ask without end, take neither threads nor places from the others."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from support.waiting import until

from hodei.api.admission import WORKERS_CONNECTIONS
from hodei.api.connection import BODY_GRACE_S, HEAD_S, MAX_HEAD_BYTES

QUICK_S = 0.5
LOOKS = 15
POLL = b"GET /api/v1/agent/inbox?wait_s=60 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\n\r\n"
HEARTBEAT = (
    b"POST /api/v1/agent/heartbeat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
FEW_THREADS = {"HODEI_HTTP_THREADS": "8"}


def health_s(port: int) -> float:
    """How long an operator's request on a new connection takes."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    began = time.monotonic()
    try:
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        return time.monotonic() - began
    finally:
        connection.close()


def assert_health_is_quick(port: int) -> None:
    """In the best of three rounds, because what others do on this machine is not the server's."""
    assert min(max(health_s(port) for _ in range(LOOKS)) for _ in range(3)) < QUICK_S


def connect(port: int, host: str = "127.0.0.1", *, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=10, source_address=(source, 0))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def everything(connection: socket.socket) -> bytes:
    """What is answered until the server closes."""
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


def is_let_in(port: int) -> bool:
    """Whether there is a place. While requests hold them all, nobody is given up for somebody new."""
    with connect(port) as connection:
        try:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return everything(connection).startswith(b"HTTP/1.1 200 ")
        except ConnectionError:
            return False


@contextlib.contextmanager
def dripping(opened: Callable[[int], socket.socket], count: int, first: bytes) -> Iterator[None]:
    """So many connections that send ``first`` and then a byte now and then, and come back when they are cut."""
    stop = threading.Event()

    def drip() -> None:
        held: dict[int, socket.socket] = {}
        while not stop.wait(0.2):
            for number in range(count):
                try:
                    if number not in held:
                        held[number] = opened(number)
                        held[number].sendall(first)
                    held[number].sendall(b"a")
                except OSError:
                    if number in held:
                        held.pop(number).close()
                if number == count - 1:
                    all_began.set()
        for connection in held.values():
            connection.close()

    all_began = threading.Event()
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        assert all_began.wait(20)
        yield
    finally:
        stop.set()
        thread.join()


def test_heads_that_drip_hold_no_thread(serve):
    served = serve("orchestrator", **FEW_THREADS)
    port = served.port("orchestrator")

    with dripping(lambda _: connect(port), 380, b"GET /health HTTP/1.1\r\nX: "):
        assert_health_is_quick(port)


def test_five_hundred_dripping_connections_of_agents_do_not_slow_operators(serve):
    served = serve("worker-manager", "127.0.0.2")
    port = served.port("worker-manager")

    with dripping(
        lambda number: connect(port, "127.0.0.2", source=f"127.0.1.{1 + number % 10}"),
        500,
        b"GET /api/v1/agent/inbox HTTP/1.1\r\nX: ",
    ):
        assert_health_is_quick(port)


def test_bodies_that_drip_leave_threads_for_operators(serve):
    served = serve("worker-manager", **FEW_THREADS)
    port = served.port("worker-manager")

    with dripping(lambda _: connect(port), 100, HEARTBEAT % 100_000):
        assert_health_is_quick(port)


def test_waiting_agents_leave_threads_for_operators_and_get_theirs_in_turn(serve):
    served = serve("worker-manager", **FEW_THREADS)
    port = served.port("worker-manager")

    with contextlib.ExitStack() as agents:
        waiting = [agents.enter_context(connect(port)) for _ in range(20)]
        for agent in waiting:
            agent.sendall(POLL.replace(b"wait_s=60", b"wait_s=1"))
        assert_health_is_quick(port)
        for agent in waiting:
            assert agent.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_head_that_never_ends_is_answered_and_closed(serve):
    port = serve("orchestrator").port("orchestrator")

    with connect(port) as slow:
        began = time.monotonic()
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        answer = everything(slow)
        took_s = time.monotonic() - began

    assert answer.startswith(b"HTTP/1.1 408 ") and b"application/problem+json" in answer
    assert HEAD_S - 0.5 <= took_s <= HEAD_S + 2


def test_a_later_request_on_a_kept_connection_must_be_whole_in_time_too(serve):
    port = serve("orchestrator").port("orchestrator")

    with connect(port) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")
        time.sleep(HEAD_S + 1.5)  # being idle is no fault
        slow.sendall(b"GET /hea")
        assert b"HTTP/1.1 408 " in everything(slow)


def test_who_never_says_anything_is_closed_without_a_word(serve):
    port = serve("orchestrator").port("orchestrator")

    with connect(port) as silent:
        assert everything(silent) == b""


def test_a_head_without_end_is_refused_at_once(serve):
    port = serve("orchestrator").port("orchestrator")

    with connect(port) as endless:
        began = time.monotonic()
        endless.sendall(b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * (MAX_HEAD_BYTES // 6 + 10))
        assert endless.recv(65536).startswith(b"HTTP/1.1 431 ")
        assert time.monotonic() - began < HEAD_S


def test_a_body_that_drips_is_answered_with_408_and_the_connection_ends(serve):
    port = serve("worker-manager").port("worker-manager")

    with connect(port) as slow:
        began = time.monotonic()
        slow.sendall(HEARTBEAT % 1000 + b'{"spool')
        answer = everything(slow)
        took_s = time.monotonic() - began

    assert answer.startswith(b"HTTP/1.1 408 ") and b'"code":"request_timeout"' in answer
    assert b"connection: close" in answer.lower()
    assert BODY_GRACE_S - 0.5 <= took_s <= BODY_GRACE_S + 4


def test_a_slow_but_honest_agent_is_served(serve):
    served = serve("worker-manager", "127.0.0.2")
    body = json.dumps({"executions": [], "spool_bytes": 0}).encode().ljust(60_000)

    with connect(served.port("worker-manager"), "127.0.0.2") as agent:
        head = HEARTBEAT % len(body)
        for piece in (head[:20], head[20:100], head[100:]):
            agent.sendall(piece)
            time.sleep(1.0)
        for start in range(0, len(body), 10_000):  # 20 kB/s, for a second longer than the grace alone allows
            agent.sendall(body[start : start + 10_000])
            time.sleep(1.0)
        assert agent.recv(65536).startswith(b"HTTP/1.1 200 ")
        agent.sendall(POLL.replace(b"wait_s=60", b"wait_s=0"))
        assert agent.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_address_on_the_agents_side_holds_only_so_many_connections(serve):
    served = serve("worker-manager", "127.0.0.2")
    port = served.port("worker-manager")

    with contextlib.ExitStack() as stack:
        for _ in range(WORKERS_CONNECTIONS):
            stack.enter_context(connect(port, "127.0.0.2")).sendall(POLL.replace(b"wait_s=60", b"wait_s=8"))
        for _ in range(3):
            with connect(port, "127.0.0.2") as further:
                assert everything(further).startswith(b"HTTP/1.1 429 ")
        with connect(port, "127.0.0.2", source="127.0.1.1") as other:
            other.sendall(POLL.replace(b"wait_s=60", b"wait_s=0"))
            assert other.recv(65536).startswith(b"HTTP/1.1 200 ")
        with connect(port) as elsewhere:
            elsewhere.sendall(POLL.replace(b"wait_s=60", b"wait_s=0"))
            assert elsewhere.recv(65536).startswith(b"HTTP/1.1 200 ")
    lines = [line for line in served.errors.read_text().splitlines() if "too many connections" in line]
    assert len(lines) == 1 and '"127.0.0.1"' in lines[0] and str(WORKERS_CONNECTIONS) in lines[0]

    def is_let_in_again() -> bool:
        with connect(port, "127.0.0.2") as again:
            try:
                again.sendall(POLL.replace(b"wait_s=60", b"wait_s=0"))
                return again.recv(65536).startswith(b"HTTP/1.1 200 ")
            except ConnectionError:
                return False

    until(is_let_in_again, what="a free place")


def test_where_workers_may_share_an_address_it_holds_as_many_as_they_need(serve):
    """A node of a cluster may hide all of its pods behind its own address."""
    served = serve("worker-manager", "127.0.0.2+")

    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(connect(served.port("worker-manager"), "127.0.0.2", source="127.0.1.1"))
            for _ in range(3 * WORKERS_CONNECTIONS)
        ]
        for connection in held:
            connection.sendall(POLL.replace(b"wait_s=60", b"wait_s=0"))
        assert all(connection.recv(65536).startswith(b"HTTP/1.1 200 ") for connection in held)


def test_when_all_places_are_taken_those_who_say_nothing_make_room(serve):
    served = serve("orchestrator", **FEW_THREADS)
    port = served.port("orchestrator")

    with contextlib.ExitStack() as stack:
        for number in range(600):  # 8 threads' worth of places are 532
            stack.enter_context(connect(port, source=f"127.0.1.{1 + number % 4}"))
        assert_health_is_quick(port)


def test_places_are_counted_rightly_however_connections_come_and_go(serve):
    served = serve("orchestrator", **FEW_THREADS)
    port = served.port("orchestrator")
    most = 8 * 4 + 500
    assert_health_is_quick(port)
    at_rest = descriptors(served.process.pid)

    for _ in range(3):
        with contextlib.ExitStack() as stack:
            held = [
                stack.enter_context(connect(port, source=f"127.0.1.{n % 4 + 1}")) for n in range(most + 50)
            ]
            for connection in held:  # while some of them are being given up
                with contextlib.suppress(OSError):
                    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(lambda: is_let_in(port), what="a place that no unanswered request holds")
            assert_health_is_quick(port)
    until(lambda: descriptors(served.process.pid) <= at_rest, what="the end of all connections")
    with contextlib.ExitStack() as stack:  # and an address has its three quarters again, and no more
        again = [stack.enter_context(connect(port)) for _ in range(most * 3 // 4)]
        with connect(port) as further:
            assert everything(further).startswith(b"HTTP/1.1 429 ")
        for connection in again:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)


def test_a_client_that_does_not_close_after_its_answer_holds_nobody_up(serve):
    port = serve("orchestrator").port("orchestrator")

    with contextlib.ExitStack() as stack:
        for _ in range(20):
            rude = stack.enter_context(connect(port))
            rude.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert rude.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert_health_is_quick(port)


@pytest.mark.parametrize("cut", [10, 47, 200])
def test_requests_sent_together_are_answered_one_after_the_other(serve, cut):
    port = serve("orchestrator").port("orchestrator")
    three = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2
    three += b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    with connect(port) as client:
        client.sendall(three[:cut])
        time.sleep(0.1)
        client.sendall(three[cut:])
        assert everything(client).count(b"HTTP/1.1 200 ") == 3
