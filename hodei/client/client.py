"""What the services offer, a method each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

from hodei.client import following
from hodei.client.errors import NotHodei
from hodei.client.shapes import (
    Event,
    Execution,
    Health,
    Job,
    LogEntry,
    LogPage,
    Provider,
    ProviderHealth,
    Saga,
    Why,
    Worker,
)
from hodei.client.transport import Transport, is_loopback

API = "/api/v1"
PAGE = 500
LOG_PAGE = 5000
TIMEOUT_S = 30.0
SERVICE_PORTS = {"orchestrator": 8080, "scheduler": 8081, "worker_manager": 8082}
LOG_END = "Hodei-Log-End"


class HodeiClient:
    """The platform whose orchestrator is at ``url``. Use it as a context manager, in one thread.

    The scheduler and the worker manager are found through the orchestrator's ``/health`` (``services``), else
    on their default ports of the same host. ``timeout_s`` is for one answer, on top of what a method waits.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._services: dict[str, Transport] = {"orchestrator": self._transport(self.url)}
        self._addresses: dict[str, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for transport in self._services.values():
            transport.close()

    # Jobs

    def create_job(self, job: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Submits a job. Without a key one is made, so that a repeated request cannot make two jobs."""
        key = idempotency_key or str(uuid.uuid4())
        return Job.from_json(self._orchestrator.post(f"{API}/jobs", dict(job), idempotency_key=key))

    def create_jobs(
        self, jobs: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[Job]:
        """Submits all of them or none."""
        key = idempotency_key or str(uuid.uuid4())
        body = {"jobs": [dict(job) for job in jobs]}
        answer = self._orchestrator.post(f"{API}/jobs/batch", body, idempotency_key=key)
        return [Job.from_json(item) for item in (answer["jobs"] if isinstance(answer, dict) else answer)]

    def jobs(self, *, limit: int | None = None, **filters: str | None) -> Iterator[Job]:
        """Jobs, newest first, page after page; ``status`` and ``pipeline_id`` narrow them. No limit: all."""
        pages = self._orchestrator.pages(f"{API}/jobs", limit=_page(limit), **filters)
        return (Job.from_json(item) for item in islice(pages, limit))

    def job(self, job_id: str, *, wait_s: float = 0.0) -> Job:
        """The job; with ``wait_s`` the server answers when it ends, or after that time."""
        wait = {"wait": f"{wait_s:g}"} if wait_s else {}
        return Job.from_json(self._orchestrator.get(_job(job_id), wait_s=wait_s, **wait))

    def wait(self, job_id: str, *, patience_s: float = following.PATIENCE_S) -> Job:
        """The job when it has ended. A server that restarts is waited for up to ``patience_s``."""
        return following.wait(self, job_id, patience_s=patience_s)

    def events(self, job_id: str) -> list[Event]:
        pages = self._orchestrator.pages(f"{_job(job_id)}/events")
        return [Event.from_json(item) for item in pages]

    def job_sagas(self, job_id: str) -> list[Saga]:
        return [Saga.from_json(item) for item in self._orchestrator.pages(f"{_job(job_id)}/sagas")]

    def executions(self, job_id: str) -> list[Execution]:
        pages = self._orchestrator.pages(f"{_job(job_id)}/executions")
        return [Execution.from_json(item) for item in pages]

    def why(self, job_id: str) -> Why:
        return Why.from_json(self._orchestrator.get(f"{_job(job_id)}/why"))

    # Logs

    def log_page(
        self,
        job_id: str,
        *,
        after: int = 0,
        attempt: int | None = None,
        wait_s: float = 0.0,
        limit: int = LOG_PAGE,
    ) -> LogPage:
        """Entries of one attempt (default: the last) after a seq.

        With ``wait_s`` the server holds an empty answer back until there is something to say, or that
        time is over.
        """
        response = self._orchestrator.send(
            "GET",
            f"{_job(job_id)}/logs",
            wait_s=wait_s,
            parameters={
                "after": after,
                "limit": limit,
                "attempt": attempt,
                "wait_s": f"{wait_s:g}" if wait_s else None,
            },
        )
        try:
            entries = [LogEntry.from_json(item) for item in response.json()]
        except (ValueError, TypeError, AttributeError) as error:
            raise NotHodei.at(self.url, "its log is not a list of entries") from error
        return LogPage(entries=entries, end=response.headers.get(LOG_END, "").lower() == "true")

    def log(self, job_id: str, *, after: int = 0, attempt: int | None = None) -> Iterator[LogEntry]:
        """What is stored of an attempt's log now (default: the last attempt)."""
        while True:
            page = self.log_page(job_id, after=after, attempt=attempt)
            yield from page.entries
            if page.end or not page.entries:
                return
            after, attempt = page.entries[-1].seq, page.entries[-1].attempt

    def log_text(self, job_id: str, *, attempt: int | None = None) -> str:
        """The log as the text that the job wrote, both streams in the order of arrival."""
        return self._orchestrator.send(
            "GET", f"{_job(job_id)}/logs", parameters={"attempt": attempt}, headers={"Accept": "text/plain"}
        ).text

    def follow_log(
        self, job_id: str, *, attempt: int = 0, after: int = 0, patience_s: float = following.PATIENCE_S
    ) -> Iterator[LogEntry]:
        """Entries as they come, attempt after attempt, until the job has ended and its log is complete.

        It starts after seq ``after`` of ``attempt``; 0 is the first one that there will be.
        """
        return following.follow_log(self, job_id, attempt=attempt, after=after, patience_s=patience_s)

    # Providers, workers, sagas, health

    def providers(self) -> list[Provider]:
        pages = self._orchestrator.pages(f"{API}/providers")
        return [Provider.from_json(item) for item in pages]

    def provider(self, provider_id: str) -> Provider:
        return Provider.from_json(self._orchestrator.get(f"{API}/providers/{quote(provider_id, safe='')}"))

    def provider_health(self, provider_id: str) -> ProviderHealth:
        """Looks now, so it takes as long as the provider does."""
        path = f"{API}/providers/{quote(provider_id, safe='')}/health"
        return ProviderHealth.from_json(self._orchestrator.get(path, wait_s=30.0))

    def workers(self, *, limit: int | None = None, **filters: str | None) -> Iterator[Worker]:
        pages = self._service("worker_manager").pages(f"{API}/workers", limit=_page(limit), **filters)
        return (Worker.from_json(item) for item in islice(pages, limit))

    def worker(self, worker_id: str) -> Worker:
        return Worker.from_json(
            self._service("worker_manager").get(f"{API}/workers/{quote(worker_id, safe='')}")
        )

    def sagas(self, *, limit: int | None = None, **filters: str | None) -> Iterator[Saga]:
        """Sagas without their audit; ``state``, ``type`` and ``job_id`` narrow them."""
        pages = self._orchestrator.pages(f"{API}/sagas", limit=_page(limit), **filters)
        return (Saga.from_json(item) for item in islice(pages, limit))

    def saga(self, saga_id: str) -> Saga:
        return Saga.from_json(self._orchestrator.get(f"{API}/sagas/{quote(saga_id, safe='')}"))

    def health(self, service: str = "orchestrator") -> Health:
        """How a service says that it is, also when that is ``down``."""
        transport = self._service(service)
        answer = transport.send("GET", "/health", accept=frozenset({503}))
        try:
            return Health.from_json(answer.json())
        except (ValueError, AttributeError) as error:
            raise NotHodei.at(transport.url, "its /health is not JSON") from error

    def address(self, service: str) -> str:
        """The URL of ``orchestrator``, ``scheduler`` or ``worker_manager``."""
        if service == "orchestrator":
            return self.url
        if self._addresses is None:
            self._addresses = self.health().services
        said = self._addresses.get(service)
        return _reachable(said, self.url) if said else _with_port(self.url, SERVICE_PORTS[service])

    @property
    def _orchestrator(self) -> Transport:
        return self._services["orchestrator"]

    def _service(self, name: str) -> Transport:
        if name not in self._services:
            self._services[name] = self._transport(self.address(name))
        return self._services[name]

    def _transport(self, url: str) -> Transport:
        return Transport(url, token=self._token, timeout_s=self._timeout_s)


def _job(job_id: str) -> str:
    return f"{API}/jobs/{quote(job_id, safe='')}"


def _page(limit: int | None) -> int:
    return min(limit or PAGE, PAGE)


def _with_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return urlunsplit((parts.scheme, f"{host}:{port}", "", "", ""))


def _reachable(said: str, url: str) -> str:
    """A server says where it listens; its loopback is not ours when it is on another machine."""
    port = urlsplit(said).port
    return _with_port(url, port) if port and is_loopback(said) and not is_loopback(url) else said.rstrip("/")
