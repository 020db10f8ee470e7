"""The queue and the registry of workers, as the scheduler offers them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

from hodei.client.shapes import Job, Worker
from hodei.client.transport import Transport

QUEUE = "/api/v1/queue"
WORKERS = "/api/v1/workers"
PAGE = 500


@dataclass(frozen=True, kw_only=True)
class RegisteredWorker(Worker):
    """A worker in the registry's words. ``token`` is there once, in the answer to its registration."""

    registered_at: str | None = None
    token: str | None = None
    token_expires_at: str | None = None


class RegistryCalls:
    """A part of :class:`hodei.client.client.HodeiClient`."""

    def _service(self, name: str) -> Transport:
        raise NotImplementedError(name)

    def queue(self, *, limit: int | None = None, **filters: Any) -> Iterator[Job]:
        """The jobs that wait for a worker, the next one first; ``label``, ``provider`` and ``text`` narrow them."""
        pages = self._service("scheduler").pages(QUEUE, limit=min(limit or PAGE, PAGE), **filters)
        return (Job.from_json(item) for item in islice(pages, limit))

    def register_worker(self, worker_type: str, *, idempotency_key: str | None = None) -> RegisteredWorker:
        """Enters a self-hosted worker, and returns it with the token for its agent. Without a key one is made."""
        key = idempotency_key or str(uuid.uuid4())
        answer = self._service("scheduler").post(WORKERS, {"type": worker_type}, idempotency_key=key)
        return RegisteredWorker.from_json(answer)

    def registered_workers(self, *, limit: int | None = None, **filters: Any) -> Iterator[RegisteredWorker]:
        """Workers in the registry's words, newest first; ``state``, ``type``, ``provider``, times and text narrow them."""
        pages = self._service("scheduler").pages(WORKERS, limit=min(limit or PAGE, PAGE), **filters)
        return (RegisteredWorker.from_json(item) for item in islice(pages, limit))

    def registered_worker(self, worker_id: str) -> RegisteredWorker:
        return RegisteredWorker.from_json(self._service("scheduler").get(_worker(worker_id)))

    def heartbeat_worker(self, worker_id: str) -> RegisteredWorker:
        """Says that it is there. Raises ServerRefused (409) for one that has ended."""
        answer = self._service("scheduler").send("POST", f"{_worker(worker_id)}/heartbeat")
        return RegisteredWorker.from_json(answer.json())


def _worker(worker_id: str) -> str:
    return f"{WORKERS}/{quote(worker_id, safe='')}"
