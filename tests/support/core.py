"""A platform without processes: real Postgres; messages and providers are kept in this process, and moved by the test."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from hodei.domain.causes import Failure
from hodei.domain.ids import new_id
from hodei.domain.job import JobSpec
from hodei.errors import HodeiError
from hodei.ports import Backlog, Platform
from hodei.providers.contract import Capabilities, Health, ResourceState, ResourceView, WorkerRequest
from hodei.sagas.engine import Engine
from hodei.sagas.registry import engine
from hodei.services import agents, dispatch, pulls, workers
from hodei.services.pipelines.advance import advance_run
from hodei.services.submit import NewJob, submit_job
from hodei.settings import load_settings
from hodei.storage.database import Database
from hodei.storage.transaction import Row
from hodei.vault import Vault

SECRET = "a key of the tests, long enough"
Message = tuple[Any, ...]


class KeptCourier:
    """Keeps the messages; the test delivers, repeats or drops them."""

    def __init__(self) -> None:
        self.kept: deque[Message] = deque()
        self.ever: list[Message] = []
        self._lock = threading.Lock()

    def _keep(self, *message: Any) -> None:
        with self._lock:
            self.kept.append(message)
            self.ever.append(message)

    def look(self) -> None:
        self._keep("look")

    def run_saga(self, saga_type: str, saga_id: UUID, steps: Iterable[str]) -> None:
        self._keep("run", saga_type, saga_id, list(steps))

    def undo_saga(self, saga_type: str, saga_id: UUID, steps: Iterable[str]) -> None:
        self._keep("undo", saga_type, saga_id, list(steps))

    def destroy(self, worker_id: UUID) -> None:
        self._keep("destroy", worker_id)

    def pull(self, provider_id: UUID, image: str) -> None:
        self._keep("pull", provider_id, image)

    def advance(self, run_id: UUID) -> None:
        self._keep("advance", run_id)

    def relay(self) -> None:
        """Events are of no interest here."""

    def relay_now(self, *, older_than_s: float) -> int:
        return 0

    def was_emptied(self) -> bool:
        return False

    def note_not_empty(self) -> None:
        pass

    def backlog(self) -> Backlog | None:
        return None

    def ping(self) -> str | None:
        return None

    def close(self) -> None:
        self.kept.clear()

    def take(self) -> Message | None:
        with self._lock:
            return self.kept.popleft() if self.kept else None


class DeafWakeups:
    """Wakes nobody; what was woken is kept."""

    closing = False

    def __init__(self) -> None:
        self.woken: list[str] = []

    def wait(self, key: str, timeout_s: float) -> bool:
        return False

    def listen(self, key: str) -> DeafWakeups:
        return self

    def tell(self, key: str, effect: Callable[[], None]) -> DeafWakeups:
        return self

    def wake(self, key: str) -> None:
        self.woken.append(key)

    def close(self) -> None:
        pass

    def __enter__(self) -> DeafWakeups:
        return self

    def __exit__(self, *details: object) -> None:
        pass


class TestPlace:
    """A provider in memory. ``on_start`` is called before a worker is made and may raise a ProviderError."""

    __test__ = False
    provider_type = "fake"

    def __init__(self, provider_id: UUID) -> None:
        self.provider_id = provider_id
        self.made: dict[UUID, str] = {}
        self.starts: list[UUID] = []
        self.stops: list[UUID] = []
        self.prepared: list[str] = []
        self.on_start: Callable[[WorkerRequest], None] = lambda request: None
        self.on_stop: Callable[[UUID], None] = lambda worker_id: None
        self.on_prepare: Callable[[str], None] = lambda image: None
        self.most = 0

    def start(self, request: WorkerRequest) -> str:
        self.on_start(request)
        self.starts.append(request.worker_id)
        self.made.setdefault(request.worker_id, f"res-{request.worker_id}")
        self.most = max(self.most, len(self.made))
        return self.made[request.worker_id]

    def prepare(self, image: str) -> None:
        self.on_prepare(image)
        self.prepared.append(image)

    def inspect(self, worker_id: UUID) -> ResourceView:
        state = ResourceState.RUNNING if worker_id in self.made else ResourceState.GONE
        return ResourceView(worker_id=worker_id, state=state, resource_id=self.made.get(worker_id))

    def stop(self, worker_id: UUID, *, grace_s: float = 0.0) -> None:
        self.on_stop(worker_id)
        self.stops.append(worker_id)
        self.made.pop(worker_id, None)

    def list_workers(self, deployment: str) -> list[ResourceView]:
        return [self.inspect(worker_id) for worker_id in list(self.made)]

    def health(self) -> Health:
        return Health(ok=True, message="It is well.")

    def capabilities(self) -> Capabilities:
        return Capabilities(images=True, cpu_limits=True, memory_limits=True)

    def close(self) -> None:
        pass


class Places:
    """The providers of a :class:`Core`."""

    def __init__(self) -> None:
        self.places: dict[UUID, TestPlace] = {}

    def get(self, provider_id: UUID) -> TestPlace:
        return self.places.setdefault(provider_id, TestPlace(provider_id))

    def ids(self) -> list[UUID]:
        return list(self.places)

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        pass


class Core:
    """The platform, and what a test does with it."""

    def __init__(self, database_url: str, folder: Path, **settings: Any) -> None:
        self.courier = KeptCourier()
        self.wakeups = DeafWakeups()
        self.places = Places()
        self.database = Database(database_url, pool_size=8, application_name="hodei test")
        self.platform = Platform(
            settings=load_settings({}, log_dir=folder / "logs", **settings),
            database=self.database,
            courier=self.courier,
            wakeups=self.wakeups,
            providers=self.places,
            vault=Vault(SECRET),
        )
        self.engine: Engine = engine(self.platform)

    def close(self) -> None:
        self.platform.close()

    # --- looking ---------------------------------------------------------------------------------------------------

    def sql(self, statement: str, **parameters: Any) -> list[Row]:
        """What an operator would type; committed."""
        with self.database.engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return [Row(row) for row in result.mappings()] if result.returns_rows else []

    def job(self, job_id: UUID) -> Row:
        return self.sql("SELECT * FROM jobs WHERE id = :id", id=job_id)[0]

    def worker(self, worker_id: UUID) -> Row:
        return self.sql("SELECT * FROM workers WHERE id = :id", id=worker_id)[0]

    def saga(self, saga_id: UUID) -> Row:
        return self.sql("SELECT * FROM sagas WHERE id = :id", id=saga_id)[0]

    def sagas(self, job_id: UUID, saga_type: str | None = None) -> list[Row]:
        rows = self.sql("SELECT * FROM sagas WHERE correlation_id = :id ORDER BY started_at", id=job_id)
        return [row for row in rows if saga_type in (None, row.saga_type)]

    def audit(self, saga_id: UUID) -> list[tuple[str, str | None]]:
        rows = self.sql(
            "SELECT event_type, step_name FROM saga_audit_events WHERE saga_id = :id ORDER BY occurred_at",
            id=saga_id,
        )
        return [(row.event_type, row.step_name) for row in rows]

    def events(self, aggregate_id: UUID) -> list[str]:
        rows = self.sql(
            "SELECT event_type, payload FROM domain_events WHERE aggregate_id = :id ORDER BY occurred_at",
            id=aggregate_id,
        )
        return [
            f"{row.event_type} {row.payload['new_state']}"
            if row.event_type == "JobStatusChanged"
            else row.event_type
            for row in rows
        ]

    def places_taken(self, provider_id: UUID) -> int:
        return self.sql("SELECT places_taken FROM provider_configs WHERE id = :id", id=provider_id)[
            0
        ].places_taken

    # --- doing -----------------------------------------------------------------------------------------------------

    def provider(
        self,
        name: str,
        *,
        max_workers: int = 8,
        status: str = "ACTIVE",
        kind: str = "fake",
        priority: int = 0,
    ) -> UUID:
        """A provider's row, and its place in memory."""
        provider_id = uuid4()
        self.sql(
            "INSERT INTO provider_configs (id, name, provider_type, status, priority, max_workers)"
            " VALUES (:id, :name, :kind, :status, :priority, :max_workers)",
            id=provider_id, name=name, kind=kind, status=status, priority=priority, max_workers=max_workers,
        )  # fmt: skip
        self.places.get(provider_id)
        return provider_id

    def submit(
        self, provider: str = "auto", *, priority: int = 0, command: str = "true", **spec: Any
    ) -> UUID:
        new = NewJob(name="t", priority=priority, spec=JobSpec(command=command, provider=provider, **spec))
        return submit_job(self.platform, new, actor="test", request_id=None)["id"]

    def deliver(self, message: Message) -> None:
        """Handle one message as a controller does; a step that raises leaves its message handled."""
        kind, *details = message
        if kind == "look":
            dispatch.look(self.platform)
        elif kind == "destroy":
            workers.destroy(self.platform, details[0])
        elif kind == "pull":
            self.pull(*details)
        elif kind == "advance":
            advance_run(self.platform, details[0])
        else:
            act = self.engine.run_step if kind == "run" else self.engine.undo_step
            saga_type, saga_id, steps = details
            for step in steps:
                if not act(saga_id, step):
                    return
            if kind == "run":
                self.engine.go_on(saga_type, saga_id, steps[-1])

    def pull(self, provider_id: UUID, image: str) -> None:
        before = set(threading.enumerate())
        pulls.start_pull(self.platform, provider_id, image)
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith("pull "):
                thread.join(10)

    def drain(self) -> int:
        """Deliver messages until there are none; return how many that were."""
        count = 0
        while (message := self.courier.take()) is not None:
            self.deliver(message)
            count += 1
            assert count < 5000, "messages make messages without end"
        return count

    def connect(self, worker_id: UUID) -> agents.AgentIdentity:
        """What a worker's agent does first: it registers and polls its inbox."""
        session = f"session of {worker_id}, long enough to be one"
        registration = {"protocol": 1, "session_token": session, "agent_version": "test"}
        agents.register(self.platform, worker_id, self.platform.one_time_token(worker_id), registration)
        identity = agents.AgentIdentity(worker_id=worker_id)
        agents.poll_inbox(self.platform, identity, 0, 0)
        return identity

    def assigned(self, worker_id: UUID, after: int = 0) -> dict[str, Any]:
        """The definition in the worker's inbox."""
        messages = agents.poll_inbox(self.platform, agents.AgentIdentity(worker_id=worker_id), after, 0)
        return next(message["execution"] for message in reversed(messages) if message["kind"] == "run")

    def perform_attempt(self, worker_id: UUID, attempt: int) -> None:
        """As :meth:`perform`, for an attempt after the first."""
        agent, given = agents.AgentIdentity(worker_id=worker_id), self.assigned(worker_id)
        execution = UUID(given["execution_id"])
        agents.accept(self.platform, agent, execution, attempt)
        agents.started(self.platform, agent, execution, attempt, pid=1, at_us=1)
        agents.report_result(self.platform, agent, execution, attempt, result(0) | {"fence": attempt})

    def perform(self, worker_id: UUID, *, exit_code: int = 0) -> None:
        """Take the job in the inbox, run it in no time, report it."""
        agent, given = agents.AgentIdentity(worker_id=worker_id), self.assigned(worker_id)
        execution, fence = UUID(given["execution_id"]), given["fence"]
        agents.accept(self.platform, agent, execution, fence)
        agents.started(self.platform, agent, execution, fence, pid=1, at_us=1)
        agents.report_result(self.platform, agent, execution, fence, result(exit_code))

    def to_running_worker(self, provider: str, **spec: Any) -> tuple[UUID, UUID]:
        """A job whose worker has it in its inbox: (job, worker)."""
        job_id = self.submit(provider, **spec)
        self.drain()
        worker_id = self.job(job_id).worker_id
        self.connect(worker_id)
        self.drain()
        return job_id, worker_id

    def make_due(self) -> None:
        """As if all back-offs, nudges and deadlines of messages were over; leases and waiting are as they were."""
        self.sql("UPDATE sagas SET nudge_after = clock_timestamp() WHERE waiting_until IS NULL")
        self.sql("UPDATE jobs SET due_at = clock_timestamp() WHERE state = 'PENDING'")


def result(exit_code: int | None = 0, *, last_frame: int = 0, **more: Any) -> dict[str, Any]:
    """An agent's report."""
    code = None if exit_code == 0 else "ERR_1007"
    return {
        "fence": 1, "outcome": "exited", "exit_code": exit_code, "signal": None, "error_code": code,
        "error_message": None if code is None else "It exited.", "last_frame": last_frame,
    } | more  # fmt: skip


def failure(code: str) -> Failure:
    return Failure(code=code, message=f"It failed with {code}.")


def open_the_door(core: Core, *, for_s: float = 7200.0) -> None:
    """As if agents could have reached us for so long."""
    core.sql(
        "INSERT INTO hodei.loops (name, owner, interval_s, detail) VALUES ('door:t', 't', 5, "
        "jsonb_build_object('up_since', clock_timestamp() - make_interval(secs => :for_s)))",
        for_s=for_s,
    )


def reopen_the_door(core: Core) -> None:
    """As if all of the platform had been away until three seconds ago."""
    core.sql(
        "UPDATE hodei.loops SET progressed_at = clock_timestamp(), "
        "detail = jsonb_build_object('up_since', clock_timestamp() - interval '3 s') WHERE name = 'door:t'"
    )


def fresh_id() -> UUID:
    return new_id()


def refused(call: Callable[[], Any]) -> HodeiError | None:
    """The error that the call is refused with, or None."""
    try:
        call()
    except HodeiError as error:
        return error
    return None
