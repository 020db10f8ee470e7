"""Where the faults happen: two of every process, on a Postgres, a Redis and a Docker engine that may be killed at any time."""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras

from hodei.client.client import HodeiClient
from hodei.client.errors import ServerUnreachable
from hodei.domain.ids import DOCKER_PROVIDER_ID, PROCESS_PROVIDER_ID
from hodei.errors import HodeiError
from hodei.storage import migrate
from support.chaos_docker import OwnDocker, own_docker, started_at
from support.chaos_keeper import Keeper, two_sets
from support.chaos_servers import MortalPostgres, MortalRedis, mortal_servers
from support.chaos_witness import SCRIPT
from support.platform import PROCESSES, RunningPlatform
from support.process_tree import with_text
from support.servers import with_driver
from support.waiting import until

SEEN_IN_CONTAINERS = "/witness"
ANSWERS_WITHIN_S = 60.0
"""How long the suite itself waits for a database or a service that a fault has taken away."""


LEASE_IN_GIVE_UPS = 2
"""An agent's lease, as :attr:`hodei.settings.Settings.lease_s` has it: so long a silent agent lets its job live."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The platform's times, and how long the faults that are measured against them last. All in seconds."""

    heartbeat: float
    lost_after: float
    give_up_after: float
    cut_short: float
    cut_kept: float
    cut_past: float

    @property
    def frozen(self) -> float:
        """How long an agent is stopped: past its lease, and past the moment at which it is given up."""
        return self.give_up_after * LEASE_IN_GIVE_UPS * 1.15

    @property
    def settings(self) -> dict[str, str]:
        return {
            "heartbeat_interval": f"{self.heartbeat:g}",
            "worker_lost_after": f"{self.lost_after:g}",
            "worker_give_up_after": f"{self.give_up_after:g}",
        }


SCALED = Scale(heartbeat=1, lost_after=4, give_up_after=20, cut_short=2, cut_kept=10, cut_past=45)
REAL = Scale(heartbeat=5, lost_after=30, give_up_after=300, cut_short=20, cut_kept=90, cut_past=330)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running job, the worker that it runs on, and the worker's agent on this machine."""

    job_id: str
    attempt: int
    worker_id: str
    provider: str
    resource_id: str
    pid: int
    started: float


@dataclass(kw_only=True)
class Arena:
    """Everything that may be hurt, and the ways to look at it from outside."""

    rng: random.Random
    scale: Scale
    sets: dict[str, RunningPlatform]
    keeper: Keeper
    postgres: MortalPostgres
    redis: MortalRedis
    docker: OwnDocker | None
    witness: Path
    shared: Path
    disturbed: dict[str, str] = field(default_factory=dict)
    """Workers that a fault has hit so that their attempts may be lost, and by what."""

    engine_outages: list[tuple[float, float]] = field(default_factory=list)
    """When the Docker engine was away, in seconds of the database's epoch: all workers there may be lost."""

    door_outages: list[tuple[float, float]] = field(default_factory=list)
    """When a worker-manager was away, in the same seconds. Its workers know no other."""

    _connections: threading.local = field(default_factory=threading.local)

    # Looking

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What an operator sees with psql; waits for a Postgres that is away."""

        def ask() -> list[tuple[Any, ...]] | None:
            try:
                if getattr(self._connections, "open", None) is None:
                    self._connections.open = psycopg2.connect(self.postgres.url, connect_timeout=3)
                    self._connections.open.autocommit = True
                    psycopg2.extras.register_uuid(conn_or_curs=self._connections.open)
                with self._connections.open.cursor() as cursor:
                    cursor.execute(statement, parameters or None)
                    return [("rows", cursor.fetchall() if cursor.description else [])]
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                with contextlib.suppress(psycopg2.Error, AttributeError):
                    self._connections.open.close()
                self._connections.open = None
                return None

        answered = until(ask, within_s=ANSWERS_WITHIN_S, what="Postgres")
        return answered[0][1]  # type: ignore[no-any-return]

    def value(self, statement: str, *parameters: Any) -> Any:
        return self.sql(statement, *parameters)[0][0]

    def now(self) -> float:
        """The database's clock."""
        return float(self.value("SELECT extract(epoch FROM clock_timestamp())"))

    @property
    def deployment(self) -> str:
        return str(self.value("SELECT id FROM hodei.deployment"))

    def leased_steps(self, owner_pid: int | None = None) -> int:
        """How many steps are IN_PROGRESS under a lease now: of that process, or of anybody."""
        rows = self.sql(
            "SELECT s.lease_owner FROM sagas s WHERE s.lease_expires > clock_timestamp() AND s.lease_owner IS NOT NULL "
            "AND EXISTS (SELECT FROM saga_steps st WHERE st.saga_id = s.id AND st.state = 'IN_PROGRESS')"
        )
        return sum(owner_pid is None or owner.split(":")[1] == str(owner_pid) for (owner,) in rows)

    def api(self, which: str | None = None) -> HodeiClient:
        chosen = which or self.rng.choice(sorted(self.sets))
        return self.sets[chosen].client()

    # Doing

    def submit(self, job: dict[str, Any], key: str) -> str:
        """Submit it as a patient program does: again, with the same key, on the other set too, until it is accepted."""

        def accepted() -> str | None:
            with contextlib.suppress(ServerUnreachable), self.api() as client:
                return client.create_job(job, idempotency_key=key).id
            return None

        return until(accepted, within_s=ANSWERS_WITHIN_S, what=f"the acceptance of {key}")

    def job(
        self,
        name: str,
        provider: str,
        *,
        seconds: float,
        later: float | None = None,
        pause: float = 0.25,
        code: int = 0,
        until_there_is: Path | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """A job that is its own witness: it runs so long, in attempts after the first ``later``, and exits with ``code``;
        it ends earlier once there is that file, which only processes see."""
        folder = SEEN_IN_CONTAINERS if provider == "docker" else str(self.witness)
        later = seconds if later is None else later
        env = {
            "WITNESS": folder,
            "PAUSE": f"{pause:g}",
            "TICKS": str(max(1, round(seconds / pause))),
            "TICKS_LATER": str(max(1, round(later / pause))),
            "CODE": str(code),
            "UNTIL": str(until_there_is or "/nowhere"),
        }
        return {"name": name, "provider": provider, "command": SCRIPT, "env": env, **more}

    def target(self, provider: str | None = None, job_id: str | None = None) -> Target | None:
        """A job that runs now, chosen at random, or that one."""
        rows = self.sql(
            "SELECT j.id::text, j.attempts, w.id::text, w.provider_type, w.provider_resource_id FROM jobs j "
            "JOIN workers w ON w.id = j.worker_id WHERE j.state = 'RUNNING' AND w.state = 'BUSY' "
            "AND w.provider_resource_id IS NOT NULL AND j.cancel_requested_at IS NULL "
            "AND w.provider_type = COALESCE(%s, w.provider_type) AND j.id::text = COALESCE(%s, j.id::text) ORDER BY j.id",
            provider,
            job_id,
        )
        self.rng.shuffle(rows)
        for job, attempt, worker, kind, resource in rows:
            pid = (
                int(resource) if kind == "process" else self.docker.pid_of(resource) if self.docker else None
            )
            started = started_at(pid) if pid else None
            if pid and started is not None and _is_agent(pid):
                return Target(
                    job_id=job,
                    attempt=attempt,
                    worker_id=worker,
                    provider=kind,
                    resource_id=resource,
                    pid=pid,
                    started=started,
                )
        return None

    def states(self) -> dict[str, str]:
        return dict(self.sql("SELECT id::text, state FROM jobs"))

    def leftovers(self) -> list[str]:
        """What is left of workers: containers in any state, processes, folders, rows, places, and sagas without an end."""
        found = [
            f"container {line}" for line in (self.docker.containers(self.deployment) if self.docker else [])
        ]
        workers = self.shared / "data" / "workers"
        found += [f"process {line}" for line in with_text(f"{workers}/")]
        found += [f"folder {path}" for path in workers.glob("*/*") if path.is_dir()]
        found += [
            f"worker {row}"
            for row in self.sql("SELECT id::text, state FROM workers WHERE state <> 'TERMINATED'")
        ]
        open_sagas = "SELECT id::text, saga_type, state FROM sagas WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')"
        found += [f"saga {row}" for row in self.sql(open_sagas)]
        taken = "SELECT name, places_taken FROM provider_configs WHERE places_taken <> 0"
        found += [f"places {row}" for row in self.sql(taken)]
        return found

    def wait_until_well(self, *, within_s: float = 60.0) -> None:
        """Until both sets say that everything is."""

        def well() -> bool:
            for which in self.sets:
                try:
                    with self.api(which) as client:
                        if client.health().status != "ok":
                            return False
                except HodeiError:
                    return False
            return True

        until(well, within_s=within_s, what="the health of both sets")

    def words(self, job_id: str) -> str:
        """For a failure's message: all that the tables say of the job's way."""
        parts = [
            self.sql(
                "SELECT state, attempts, infra_retries, error_code, error_message FROM jobs WHERE id = %s",
                job_id,
            ),
            self.sql(
                "SELECT event_type, payload FROM domain_events WHERE correlation_id = %s ORDER BY occurred_at",
                job_id,
            ),
            self.sql(
                "SELECT saga_type, state, error_message, array(SELECT step_name || ' ' || state FROM saga_steps "
                "WHERE saga_id = s.id ORDER BY step_order) FROM sagas s WHERE correlation_id = %s ORDER BY started_at",
                job_id,
            ),
        ]
        return "\n".join(str(row) for rows in parts for row in rows)


def _is_agent(pid: int) -> bool:
    try:
        return b"hodei_agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextlib.contextmanager
def open_arena(
    servers: str,
    *,
    seed: int,
    scale: Scale = SCALED,
    image: str | None = None,
    workers: tuple[int, int] = (8, 12),
    names: Sequence[str] = tuple(PROCESSES),
    **settings: str,
) -> Iterator[Arena]:
    """Both sets, running and well. ``workers``: how many at a time as processes, and on Docker (with ``image`` only)."""
    rng = random.Random(seed)
    with contextlib.ExitStack() as stack:
        shared = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="hodei-chaos-", ignore_cleanup_errors=True)
            )
        )
        witness = shared / "witness"
        witness.mkdir()
        witness.chmod(0o1777)
        postgres, redis = stack.enter_context(mortal_servers(servers))
        engine = stack.enter_context(own_docker(image)) if image else None
        url = with_driver(postgres.url)
        migrate.upgrade(url)
        chosen = {"docker_enabled": "1" if engine else "0", **scale.settings, **settings}
        chosen |= {"worker_image": image} if image else {}
        sets = two_sets(shared, url, redis.url, names, **chosen)
        arena = Arena(
            rng=rng,
            scale=scale,
            sets=sets,
            keeper=Keeper(sets, random.Random(rng.random())),
            postgres=postgres,
            redis=redis,
            docker=engine,
            witness=witness,
            shared=shared,
        )
        _configure(arena, workers)
        for platform in sets.values():
            stack.enter_context(platform)
        arena.keeper.start()
        stack.callback(arena.keeper.stop)
        arena.wait_until_well()
        yield arena


def _configure(arena: Arena, workers: tuple[int, int]) -> None:
    """The built-in providers, as an operator would have set them before the first start."""
    mounts = [{"source": str(arena.witness), "target": SEEN_IN_CONTAINERS}]
    places = [(PROCESS_PROVIDER_ID, "process", {}, workers[0])]
    if arena.docker is not None:
        places.append(
            (DOCKER_PROVIDER_ID, "docker", {"docker_host": arena.docker.host, "mounts": mounts}, workers[1])
        )
    for provider_id, name, config, room in places:
        arena.sql(
            "INSERT INTO provider_configs (id, name, provider_type, status, config, max_workers) "
            "VALUES (%s, %s, %s, 'UNHEALTHY', %s, %s)",
            provider_id,
            name,
            name,
            json.dumps(config),
            room,
        )
