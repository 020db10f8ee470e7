"""The courier: hands messages to Celery from a thread of its own, so that nobody ever waits for the broker.

What cannot be sent within its patience is dropped: the clock finds what it was about. After a failure the courier
rests for a moment (a breaker), so that a broker that is away costs nothing.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid4

import redis
import structlog

from hodei.errors import HodeiError
from hodei.ports import Backlog, QueueLength
from hodei.queue import names
from hodei.queue.ages import waited_s
from hodei.queue.names import key_prefix
from hodei.services.relay import relay
from hodei.storage.database import Database

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)

MOST_WAITING = 20_000
REST_S = 1.0
FLUSH_S = 1.0
GATHER_S = 0.02
"""How long after a look or a relay the next one of this process comes at the earliest: under load one serves many."""


Trouble = Literal["away", "refused"]


class CeleryCourier:
    """Sends "look at this" messages through Celery. Safe to share between threads.

    Celery is imported with the first message: a service that sends none is smaller by a fifth.
    """

    def __init__(self, redis_url: str, database: Database) -> None:
        self._redis_url = redis_url
        self._database = database
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=3, socket_connect_timeout=2)
        self._waiting: queue.Queue[Callable[[], Any] | None] = queue.Queue(MOST_WAITING)
        self._rest_until = 0.0
        self._dropped: Trouble | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._asked: set[str] = set()
        self._done_at: dict[str, float] = {}
        self._resting: dict[str, Callable[[], Any]] = {}

    @cached_property
    def app(self) -> Celery:
        """The Celery app on the deployment's broker."""
        from hodei.queue.app import make_app

        return make_app(self._redis_url, self._database.deployment)

    def look(self) -> None:
        self._once("look", lambda: self._send(names.LOOK, queue=names.DISPATCH))

    def run_saga(self, saga_type: str, saga_id: UUID, steps: Iterable[str]) -> None:
        tasks = [(names.step_task(saga_type, step), names.step_queue(step)) for step in steps]
        self._put(lambda: self._send_chain(tasks, saga_id))

    def undo_saga(self, saga_type: str, saga_id: UUID, steps: Iterable[str]) -> None:
        tasks = [(names.undo_task(saga_type, step), names.step_queue(step)) for step in steps]
        self._put(lambda: self._send_chain(tasks, saga_id))

    def destroy(self, worker_id: UUID) -> None:
        self._put(lambda: self._send(names.DESTROY, str(worker_id), queue=names.INFRASTRUCTURE))

    def pull(self, provider_id: UUID, image: str) -> None:
        self._put(lambda: self._send(names.PULL, str(provider_id), image, queue=names.PULLS))

    def advance(self, run_id: UUID) -> None:
        self._once(f"advance {run_id}", lambda: self._send(names.ADVANCE, str(run_id), queue=names.DISPATCH))

    def relay(self) -> None:
        self._once("relay", lambda: self.relay_now(older_than_s=0.0))

    def relay_now(self, *, older_than_s: float) -> int:
        if time.monotonic() < self._rest_until:
            return 0
        try:
            return self._relay(older_than_s)
        except (redis.RedisError, OSError):
            self._rest_until = time.monotonic() + REST_S
            return 0

    def _relay(self, older_than_s: float) -> int:
        prefix = key_prefix(self._database.deployment)
        channel = f"{prefix}events"

        def publish(documents: Sequence[str]) -> None:
            with self._redis.pipeline(transaction=False) as pipeline:
                for document in documents:
                    pipeline.publish(channel, document)
                pipeline.execute()

        return relay(self._database, publish, older_than_s=older_than_s)

    def was_emptied(self) -> bool:
        try:
            return not self._redis.exists(self._epoch_key)
        except (redis.RedisError, OSError):
            return False

    def note_not_empty(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            self._redis.set(self._epoch_key, uuid4().hex, nx=True)

    @property
    def _epoch_key(self) -> str:
        """Made once. When it is gone, so is everything, or somebody dropped a message while the broker was away."""
        return f"{key_prefix(self._database.deployment)}epoch"

    def backlog(self) -> Backlog | None:
        prefix = key_prefix(self._database.deployment)
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for name in names.QUEUES:
                    pipeline.llen(prefix + name)
                    pipeline.lindex(prefix + name, -1)  # messages are put in at the left
                pipeline.hlen(f"{prefix}unacked")
                *found, unacknowledged = pipeline.execute()
        except (redis.RedisError, OSError):
            return None
        queues = [
            QueueLength(name=name, messages=length, oldest_s=waited_s(envelope))
            for name, length, envelope in zip(names.QUEUES, found[::2], found[1::2], strict=True)
        ]
        return Backlog(queues=queues, unacknowledged=unacknowledged)

    def ping(self) -> str | None:
        try:
            self._redis.ping()
            if self._dropped == "away":  # one that refuses answers all the same
                self._own_up()
                self._rest_until = 0.0
        except (redis.RedisError, OSError) as error:
            return f"The broker cannot be reached ({error}). Check that Redis runs and that HODEI_REDIS_URL is right."
        return None

    def close(self) -> None:
        if self._thread is not None:
            until = time.monotonic() + FLUSH_S
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=FLUSH_S)  # also when there is no room just now
                self._thread.join(max(0.0, until - time.monotonic()))
            self._thread = None

    def _once(self, key: str, action: Callable[[], Any]) -> None:
        """Queue it unless the same is queued already: it will look at everything that is there by then."""
        if key in self._asked:
            return
        self._asked.add(key)

        def run() -> None:
            self._asked.discard(key)
            self._done_at[key] = time.monotonic()
            action()

        if not self._put(lambda: self._resting.update({key: run})):
            self._asked.discard(key)

    def _put(self, action: Callable[[], Any]) -> bool:
        self._ensure_thread()
        try:
            self._waiting.put_nowait(action)
        except queue.Full:
            log.warning("courier.full")
            return False
        return True

    def _ensure_thread(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="courier", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while (action := self._next()) is not None:
            self._do(action)
        while self._resting:
            self._do(self._resting.popitem()[1])

    def _next(self) -> Callable[[], Any] | None:
        """What is to be done now; None: nothing more is. A look or a relay rests until its last one was long enough ago."""
        while True:
            due = {key: self._done_at.get(key, 0.0) + GATHER_S for key in self._resting}
            first = min(due, key=lambda key: due[key], default=None)
            left = None if first is None else due[first] - time.monotonic()
            if first is not None and left is not None and left <= 0:
                return self._resting.pop(first)
            try:
                return self._waiting.get(timeout=left)
            except queue.Empty:
                continue

    def _do(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except HodeiError as error:
            log.warning("courier.not_sent", reason=error.message)
        except Exception:
            log.exception("courier.failed")

    def _send(self, task: str, *arguments: str, queue: str) -> None:
        self._guarded(lambda: self.app.send_task(task, args=list(arguments), queue=queue, retry=False))

    def _send_chain(self, tasks: list[tuple[str, str]], saga_id: UUID) -> None:
        from celery import chain

        signatures = [
            self.app.signature(task, args=[str(saga_id)], immutable=True, options={"queue": queue})
            for task, queue in tasks
        ]
        whole = chain(*signatures, app=self.app) if len(signatures) > 1 else signatures[0]
        self._guarded(lambda: whole.apply_async(retry=False))

    def _own_up(self) -> None:
        """The broker takes messages again: have the clock look at all that one was dropped for meanwhile."""
        if self._dropped is not None:
            self._redis.delete(self._epoch_key)
            self._dropped = None

    def _guarded(self, send: Callable[[], Any]) -> None:
        if time.monotonic() < self._rest_until:
            self._dropped = self._dropped or "away"
            return
        try:
            send()
            self._own_up()
        except Exception as error:
            trouble = _trouble(error)
            if trouble is None:
                raise
            self._dropped = trouble
            self._rest_until = time.monotonic() + REST_S
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            log.warning(f"broker.{trouble}", reason=reason)


def _trouble(error: BaseException) -> Trouble | None:
    """Whether the broker could not be reached or answered with a refusal (a wrong password, no memory left); both
    may pass. None for anything else: a mistake of ours, which resting would only hide."""
    from kombu.exceptions import LimitExceeded, OperationalError

    if isinstance(error, OperationalError) and error.__cause__ is not None:
        error = error.__cause__  # kombu hides what it was
    if isinstance(error, (redis.AuthenticationError, redis.ResponseError)):
        return "refused"
    unreachable = (OperationalError, LimitExceeded, redis.ConnectionError, redis.TimeoutError, OSError)
    return "away" if isinstance(error, unreachable) else None
