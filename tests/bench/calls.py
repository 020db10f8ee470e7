"""Clients that cost little beside what they measure, and what their calls cost the servers in processor time."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from bench.stage import Stage


class Line:
    """One kept-alive connection; every answer must be of the expected status."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def post(self, path: str, body: bytes) -> bytes:
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        return self._answer(201)

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path)
        return self._answer(200)

    def _answer(self, expected: int) -> bytes:
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == expected, (answer.status, body[:500])
        return body


def one_after_another(count: int, clients: int, call: Callable[[], Callable[[], object]]) -> list[float]:
    """What each of ``count`` calls took; each client has a connection of its own, which ``call`` makes."""
    took: list[float] = []

    def work() -> None:
        act = call()
        for _ in range(count // clients):
            began = time.perf_counter()
            act()
            took.append(time.perf_counter() - began)

    _together([work] * clients)
    return took


def paced(url: str, path: str, *, per_s: float, for_s: float, clients: int = 8) -> list[float]:
    """What each call took from the moment at which it was due: a server that stops is felt by all that come meanwhile."""
    took: list[float] = []
    numbers = iter(range(int(per_s * for_s)))
    lock = threading.Lock()
    began = time.perf_counter() + 0.1

    def work() -> None:
        line = Line(url)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            due = began + number / per_s
            time.sleep(max(0.0, due - time.perf_counter()))
            line.get(path)
            took.append(time.perf_counter() - due)

    _together([work] * clients)
    return took


def _together(work: Sequence[Callable[[], None]]) -> None:
    failed: list[BaseException] = []

    def guarded(each: Callable[[], None]) -> None:
        try:
            each()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Processor time, user and system, in seconds. It hardly depends on what else the machine does."""

    service: float
    postgres: float

    def since(self, before: Spent) -> Spent:
        return Spent(service=self.service - before.service, postgres=self.postgres - before.postgres)

    def each(self, count: int) -> str:
        """Of one of so many calls."""
        return f"{self.service / count * 1000:.2f} + {self.postgres / count * 1000:.2f} ms"


def spent(stage: Stage, name: str) -> Spent:
    """By this process of the platform so far, and by all connections to Postgres that are open."""
    pids = stage.platform.sql("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    return Spent(
        service=_seconds(stage.platform.processes[name].pid), postgres=sum(_seconds(row[0]) for row in pids)
    )


def _seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()
