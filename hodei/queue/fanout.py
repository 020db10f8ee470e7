"""Wake-ups between processes over Redis pub/sub: one subscriber per process, one channel per deployment.

They shorten every wait and none is needed: a sweep looks at Postgres for all waiters of the process at once, each second when
Redis is away and every few seconds when it is there.
"""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable

import redis
import structlog

log = structlog.get_logger(__name__)

SWEEP_S = 5.0
SWEEP_WITHOUT_REDIS_S = 1.0
RECONNECT_S = 0.5

Sweep = Callable[[list[str]], set[str]]


class Ear:
    """One waiter's ear at one key."""

    def __init__(self, wakeups: RedisWakeups, key: str, effect: Callable[[], None] | None = None) -> None:
        self._wakeups = wakeups
        self._key = key
        self._event = threading.Event()
        self._effect = effect or self._event.set

    def wait(self, timeout_s: float) -> bool:
        """Until woken, or ``timeout_s``; True when woken. The next call waits anew."""
        if self._wakeups.closing:
            return True
        woken = self._event.wait(timeout_s)
        self._event.clear()
        return woken

    def hear(self) -> None:
        self._effect()

    def __enter__(self) -> Ear:
        self._wakeups.add(self._key, self)
        return self

    def __exit__(self, *details: object) -> None:
        self._wakeups.remove(self._key, self)


class RedisWakeups:
    """Hints that something happened, to whoever waits for it in any process."""

    def __init__(self, redis_url: str, channel: str, sweep: Sweep) -> None:
        self._client = redis.Redis.from_url(
            redis_url, socket_timeout=2, socket_connect_timeout=2, health_check_interval=25
        )
        self._listener = redis.Redis.from_url(
            redis_url, socket_timeout=30, socket_connect_timeout=2, socket_keepalive=True
        )
        self._channel = channel
        self._sweep = sweep
        self._ears: dict[str, set[Ear]] = defaultdict(set)
        self._lock = threading.Lock()
        self._outgoing: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._connected = threading.Event()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listens = False

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    def listen(self, key: str) -> Ear:
        return Ear(self, key)

    def tell(self, key: str, effect: Callable[[], None]) -> Ear:
        return Ear(self, key, effect)

    def wait(self, key: str, timeout_s: float) -> bool:
        with self.listen(key) as ear:
            return ear.wait(timeout_s)

    def wake(self, key: str) -> None:
        self._wake_here(key)
        if not self._closing.is_set():
            self._start("wake-ups out", self._publish)
            self._outgoing.put(key)

    def close(self) -> None:
        self._closing.set()
        self._outgoing.put(None)
        with self._lock:
            everyone = [ear for ears in self._ears.values() for ear in ears]
        for ear in everyone:
            ear.hear()

    def add(self, key: str, ear: Ear) -> None:
        with self._lock:
            self._ears[key].add(ear)
        if not self._listens:
            self._listens = True
            self._start("wake-ups in", self._subscribe)
            self._start("wake-ups sweep", self._look_for_all)

    def remove(self, key: str, ear: Ear) -> None:
        with self._lock:
            ears = self._ears.get(key)
            if ears is not None:
                ears.discard(ear)
                if not ears:
                    del self._ears[key]

    def _wake_here(self, key: str) -> None:
        with self._lock:
            ears = list(self._ears.get(key, ()))
        for ear in ears:
            ear.hear()

    def _start(self, name: str, target: Callable[[], None]) -> None:
        with self._lock:
            if any(thread.name == name and thread.is_alive() for thread in self._threads):
                return
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
        thread.start()

    def _publish(self) -> None:
        while (key := self._outgoing.get()) is not None:
            keys = {key}
            while not self._outgoing.empty() and len(keys) < 500:
                more = self._outgoing.get()
                if more is None:
                    self._outgoing.put(None)
                    break
                keys.add(more)
            try:
                with self._client.pipeline(transaction=False) as pipeline:
                    for each in keys:
                        pipeline.publish(self._channel, each)
                    pipeline.execute()
            except (redis.RedisError, OSError):
                self._closing.wait(RECONNECT_S)

    def _subscribe(self) -> None:
        while not self._closing.is_set():
            try:
                with self._listener.pubsub(ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(self._channel)
                    self._connected.set()
                    while not self._closing.is_set():
                        message = subscription.get_message(timeout=5.0)
                        if message is not None:
                            self._wake_here(message["data"].decode())
            except (redis.RedisError, OSError):
                self._connected.clear()
                self._closing.wait(RECONNECT_S)

    def _look_for_all(self) -> None:
        while not self._closing.wait(SWEEP_S if self._connected.is_set() else SWEEP_WITHOUT_REDIS_S):
            with self._lock:
                keys = list(self._ears)
            try:
                for key in self._sweep(keys) if keys else ():
                    self._wake_here(key)
            except Exception as error:
                log.warning("wakeups.sweep_failed", reason=str(error))
