"""Providers, workers and executions by hand, as the orchestrator and the worker manager offer them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from hodei.client.shapes import Execution, Provider, Shape, Worker
from hodei.client.transport import Transport

PROVIDERS = "/api/v1/providers"
WORKERS = "/api/v1/workers"
EXECUTE = "/api/v1/execute"
EXECUTIONS = "/api/v1/executions"
CHECK_S = 30.0
"""What answers after a look at a provider takes as long as the provider does."""


@dataclass(frozen=True, kw_only=True)
class ProviderStats(Shape):
    """A provider in numbers; ``last_day`` is about jobs and workers that were created in the last day."""

    id: str
    name: str = ""
    type: str = ""
    status: str = ""
    max_workers: int = 0
    places_taken: int = 0
    places_free: int = 0
    workers: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, int] = field(default_factory=dict)
    last_day: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Begun(Shape):
    """An execution that was asked for by hand."""

    id: str
    job_id: str = ""
    command: str | None = None
    status: str = ""
    started_at: str | None = None


class PlaceCalls:
    """A part of :class:`hodei.client.client.HodeiClient`."""

    def _service(self, name: str) -> Transport:
        raise NotImplementedError(name)

    def add_provider(self, provider: Mapping[str, Any], *, idempotency_key: str | None = None) -> Provider:
        """Adds a place where workers are made. Without a key one is made."""
        return Provider.from_json(
            self._send("orchestrator", "POST", PROVIDERS, dict(provider), idempotency_key, CHECK_S)
        )

    def change_provider(self, provider_id: str, change: Mapping[str, Any]) -> Provider:
        """Changes what is given; ``config`` is merged, and None as a value removes its key."""
        return Provider.from_json(
            self._send("orchestrator", "PATCH", _provider(provider_id), dict(change), wait_s=CHECK_S)
        )

    def remove_provider(self, provider_id: str) -> None:
        """Removes one that nothing needs. Raises ServerRefused (409) for any other."""
        self._service("orchestrator").send("DELETE", _provider(provider_id))

    def enable_provider(self, provider_id: str) -> Provider:
        """Switches it on, and returns it as a look at it found it."""
        return Provider.from_json(
            self._send("orchestrator", "POST", f"{_provider(provider_id)}/enable", wait_s=CHECK_S)
        )

    def disable_provider(self, provider_id: str) -> Provider:
        """Switches it off: no new work; what runs there goes on."""
        return Provider.from_json(self._send("orchestrator", "POST", f"{_provider(provider_id)}/disable"))

    def provider_stats(self, provider_id: str) -> ProviderStats:
        return ProviderStats.from_json(self._service("orchestrator").get(f"{_provider(provider_id)}/stats"))

    def start_worker(
        self, worker: Mapping[str, Any], *, wait_s: float = 30.0, idempotency_key: str | None = None
    ) -> Worker:
        """Has one made by hand, and waits until it is connected, or for ``wait_s``. Without a key one is made."""
        path = f"{WORKERS}?wait={wait_s:g}"
        return Worker.from_json(
            self._send("worker_manager", "POST", path, dict(worker), idempotency_key, wait_s)
        )

    def drain_worker(self, worker_id: str) -> Worker:
        """Lets it finish its job, and gives it no other."""
        return Worker.from_json(self._send("worker_manager", "POST", f"{_worker(worker_id)}/drain"))

    def stop_worker(self, worker_id: str) -> Worker:
        """Ends it now; what runs on it is tried again elsewhere."""
        return Worker.from_json(self._send("worker_manager", "POST", f"{_worker(worker_id)}/stop"))

    def execute(
        self,
        job_id: str,
        command: str | None = None,
        *,
        wait_s: float = 10.0,
        idempotency_key: str | None = None,
    ) -> Begun:
        """Runs the definition of a job that is held or has ended, and waits until it runs, or for ``wait_s``."""
        body = {"job_id": job_id} | ({} if command is None else {"command": command})
        path = f"{EXECUTE}?wait={wait_s:g}"
        return Begun.from_json(self._send("worker_manager", "POST", path, body, idempotency_key, wait_s))

    def worker_status(self, worker_id: str) -> Worker:
        """Only how it is: state, status, job and last heartbeat."""
        return Worker.from_json(self._service("worker_manager").get(f"{_worker(worker_id)}/status"))

    def execution(self, execution_id: str) -> Execution:
        return Execution.from_json(
            self._service("worker_manager").get(f"{EXECUTIONS}/{quote(execution_id, safe='')}")
        )

    def _send(
        self,
        service: str,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        wait_s: float = 0.0,
    ) -> Any:
        headers = {}
        if method == "POST" and body is not None:
            headers["Idempotency-Key"] = idempotency_key or str(uuid.uuid4())
        answer = self._service(service).send(method, path, body=body, headers=headers, wait_s=wait_s)
        return answer.json()


def _provider(provider_id: str) -> str:
    return f"{PROVIDERS}/{quote(provider_id, safe='')}"


def _worker(worker_id: str) -> str:
    return f"{WORKERS}/{quote(worker_id, safe='')}"
