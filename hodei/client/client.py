"""What the services offer, a method each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

from hodei.client import following
from hodei.client.errors import NotHodei, ServerUnreachable
from hodei.client.pipelines import PipelineCalls
from hodei.client.places import PlaceCalls
from hodei.client.records import RecordCalls
from hodei.client.registry import RegistryCalls
from hodei.client.schedules import ScheduleCalls
from hodei.client.shapes import (
    Event,
    Execution,
    Health,
    Job,
    LogAttempt,
    LogEnd,
    LogEntry,
    LogPage,
    LogSelection,
    Provider,
    ProviderHealth,
    Saga,
    Why,
    Worker,
)
from hodei.client.transport import PATIENCE_S, Transport, is_loopback

API = "/api/v1"
PAGE = 500
LOG_PAGE = 5000
TIMEOUT_S = 30.0
SERVICE_PORTS = {"orchestrator": 8080, "scheduler": 8081, "worker_manager": 8082}
LOG_END = "Hodei-Log-End"
LOG_COMPLETE = "Hodei-Log-Complete"
FROM_THE_BEGINNING = "0-0"
SILENCE_S = 40.0
"""The server says at least every 15 s that a stream is alive; after more than two of these missed it is taken for gone."""
WHOLE_LOG = LogSelection()


class HodeiClient(PipelineCalls, PlaceCalls, ScheduleCalls, RegistryCalls, RecordCalls):
    """The platform whose orchestrator is at ``url``. Use it as a context manager, in one thread.

    The scheduler and the worker manager are found through the orchestrator's ``/health`` (``services``), else
    on their default ports of the same host. ``timeout_s`` is for one answer, on top of what a method waits.
    A service that is away, because it is being restarted, is tried again for ``patience_s``, but not by :meth:`health`; no
    request is thereby done twice. ``waiting`` is called with the failure when that takes more than a second.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        waiting: Callable[[ServerUnreachable], None] = lambda failure: None,
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._waiting = waiting
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

    def forget_connections(self) -> None:
        """After an interrupt in the middle of a call: what it left half said is said to nobody else.

        The old ones are left alone, not closed: an interrupt can leave their pool's lock taken for ever.
        """
        self._services = {name: self._transport(kept.url) for name, kept in self._services.items()}

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

    def jobs(self, *, limit: int | None = None, **filters: str | list[str] | None) -> Iterator[Job]:
        """Jobs, newest first, page after page. No limit: all.

        ``status``, ``label`` (``KEY=VALUE``, any number of both), ``name``, ``provider``, ``pipeline_id``, ``schedule_id``,
        ``since``, ``until`` and ``text`` narrow them.
        """
        pages = self._orchestrator.pages(f"{API}/jobs", limit=_page(limit), **filters)
        return (Job.from_json(item) for item in islice(pages, limit))

    def job(self, job_id: str, *, wait_s: float = 0.0) -> Job:
        """The job; with ``wait_s`` the server answers when it ends, or after that time."""
        return self._job_now(job_id, wait_s=wait_s)

    def wait(self, job_id: str, *, patience_s: float = following.PATIENCE_S) -> Job:
        """The job when it has ended. A server that restarts is waited for up to ``patience_s``."""
        ask = partial(self._job_now, job_id, wait_s=following.WAIT_S, patience_s=0.0)
        return following.wait(ask, patience_s=patience_s)

    def _job_now(self, job_id: str, *, wait_s: float, patience_s: float | None = None) -> Job:
        wait = {"wait": f"{wait_s:g}"} if wait_s else {}
        return Job.from_json(
            self._orchestrator.get(_job(job_id), wait_s=wait_s, patience_s=patience_s, **wait)
        )

    def cancel(self, job_id: str) -> Job:
        """Asks for the job's end, and returns it as it is then. Raises ServerRefused (409) when it has ended otherwise."""
        return Job.from_json(self._orchestrator.send("POST", f"{_job(job_id)}/cancel").json())

    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Puts a job that failed, timed out or was cancelled back into the queue. Without a key one is made."""
        key = idempotency_key or str(uuid.uuid4())
        answer = self._orchestrator.send("POST", f"{_job(job_id)}/retry", headers={"Idempotency-Key": key})
        return Job.from_json(answer.json())

    def delete_job(self, job_id: str) -> None:
        """Deletes a job that has ended, or a definition that is held."""
        self._orchestrator.send("DELETE", _job(job_id))

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
        limit: int | None = LOG_PAGE,
        selection: LogSelection = WHOLE_LOG,
    ) -> LogPage:
        """Entries of one attempt (default: the last) after a seq.

        With ``wait_s`` the server holds an empty answer back until there is something to say, or that
        time is over. The server leaves out what is not in ``selection``.
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
                **selection.parameters(),
            },
        )
        try:
            entries = [LogEntry.from_json(item) for item in response.json()]
        except (ValueError, TypeError, AttributeError) as error:
            raise NotHodei.at(self.url, "its log is not a list of entries") from error
        return LogPage(
            entries=entries,
            end=response.headers.get(LOG_END, "").lower() == "true",
            complete=response.headers.get(LOG_COMPLETE, "").lower() != "false",
        )

    def log_pages(
        self, job_id: str, *, attempt: int | None = None, selection: LogSelection = WHOLE_LOG
    ) -> Iterator[LogPage]:
        """What is stored of an attempt's log now (default: the last attempt), page after page."""
        after = 0
        while True:
            page = self.log_page(job_id, after=after, attempt=attempt, selection=selection)
            yield page
            if page.end or len(page.entries) < LOG_PAGE:  # a running job writes on: that would never end
                return
            after, attempt = page.entries[-1].seq, page.entries[-1].attempt
            selection = replace(selection, tail=None, since=None)  # the first page says where it begins

    def log(
        self, job_id: str, *, attempt: int | None = None, selection: LogSelection = WHOLE_LOG
    ) -> Iterator[LogEntry]:
        """The entries of :meth:`log_pages`."""
        for page in self.log_pages(job_id, attempt=attempt, selection=selection):
            yield from page.entries

    def log_text(self, job_id: str, *, attempt: int | None = None) -> str:
        """The log as the text that the job wrote, both streams in the order of arrival."""
        return self._orchestrator.send(
            "GET", f"{_job(job_id)}/logs", parameters={"attempt": attempt}, headers={"Accept": "text/plain"}
        ).text

    def log_bytes(self, job_id: str, *, attempt: int | None = None, stream: str | None = None) -> bytes:
        """The log as the bytes that the job wrote, of one stream or of both in the order of arrival."""
        return self._orchestrator.send(
            "GET", f"{_job(job_id)}/logs", parameters={"attempt": attempt, "stream": stream, "raw": "1"}
        ).content

    def log_events(
        self,
        job_id: str,
        *,
        place: str | None = FROM_THE_BEGINNING,
        attempt: int | None = None,
        selection: LogSelection = WHOLE_LOG,
        idle: Callable[[], None] = lambda: None,
        patience_s: float = following.PATIENCE_S,
    ) -> Iterator[LogEntry | LogAttempt | LogEnd]:
        """The log as it is written, attempt after attempt, until the job has ended: entries, attempts that begin, the end.

        ``place``: after which event (attempt and seq) to begin; None: with the last attempt, or with the ``tail`` of it.
        ``attempt``: of this one alone. ``idle`` is called whenever all that has come was given.
        """
        parameters = {"follow": "1", "attempt": attempt, **selection.parameters()}

        def open_stream(after: str | None) -> AbstractContextManager[Iterator[bytes]]:
            headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": after})
            return self._orchestrator.stream(
                f"{_job(job_id)}/logs", parameters=parameters, headers=headers, silence_s=SILENCE_S
            )

        return following.follow_log(open_stream, place=place, idle=idle, patience_s=patience_s)

    def follow_log(
        self, job_id: str, *, attempt: int = 0, after: int = 0, patience_s: float = following.PATIENCE_S
    ) -> Iterator[LogEntry]:
        """Entries as they come, attempt after attempt, until the job has ended and its log is complete.

        It starts after seq ``after`` of ``attempt``; 0 is the first one that there will be.
        """
        told = self.log_events(job_id, place=f"{attempt}-{after}", patience_s=patience_s)
        return (item for item in told if isinstance(item, LogEntry))

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

    def probe_provider(self, provider_id: str) -> ProviderHealth:
        """Has a worker try the way to worker-manager, up to about a minute. Raises ServerRefused (409) without a probe."""
        path = f"{API}/providers/{quote(provider_id, safe='')}/probe"
        return ProviderHealth.from_json(self._orchestrator.send("POST", path, wait_s=120.0).json())

    def workers(self, *, limit: int | None = None, **filters: str | list[str] | None) -> Iterator[Worker]:
        """Workers, newest first; ``state``, ``type``, ``provider``, ``since``, ``until`` and ``text`` narrow them."""
        pages = self._service("worker_manager").pages(f"{API}/workers", limit=_page(limit), **filters)
        return (Worker.from_json(item) for item in islice(pages, limit))

    def worker(self, worker_id: str) -> Worker:
        return Worker.from_json(
            self._service("worker_manager").get(f"{API}/workers/{quote(worker_id, safe='')}")
        )

    def sagas(self, *, limit: int | None = None, **filters: str | None) -> Iterator[Saga]:
        """Sagas without their audit; ``state``, ``type``, ``job_id``, ``since``, ``until`` and ``text`` narrow them."""
        pages = self._orchestrator.pages(f"{API}/sagas", limit=_page(limit), **filters)
        return (Saga.from_json(item) for item in islice(pages, limit))

    def saga(self, saga_id: str) -> Saga:
        return Saga.from_json(self._orchestrator.get(f"{API}/sagas/{quote(saga_id, safe='')}"))

    def health(self, service: str = "orchestrator") -> Health:
        """How a service says that it is, also when that is ``down``. One that is away is not waited for."""
        return self._health(self._service(service), patience_s=0.0)

    def _health(self, transport: Transport, *, patience_s: float | None = None) -> Health:
        answer = transport.send("GET", "/health", patience_s=patience_s, accept=frozenset({503}))
        try:
            return Health.from_json(answer.json())
        except (ValueError, AttributeError) as error:
            raise NotHodei.at(transport.url, "its /health is not JSON") from error

    def address(self, service: str) -> str:
        """The URL of ``orchestrator``, ``scheduler`` or ``worker_manager``."""
        if service == "orchestrator":
            return self.url
        if self._addresses is None:
            self._addresses = self._health(self._orchestrator).services
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
        return Transport(
            url,
            token=self._token,
            timeout_s=self._timeout_s,
            patience_s=self._patience_s,
            waiting=self._waiting,
        )


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
