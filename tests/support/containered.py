"""The platform in containers of its own image, on a broker and a database in containers of ours, driven over HTTP."""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg2
import psycopg2.extras
import redis
from pytest_celery import CeleryTestContainer, CeleryWorkerContainer, RedisContainer

from hodei.client.client import HodeiClient
from hodei.client.shapes import Job
from hodei.queue.names import STEPS, key_prefix
from support.contract import SAGA_STEPS, SAGAS_OF_A_JOB
from support.waiting import until

PLATFORM_IMAGE = "hodei-jobs:e2e-test"
REDIS_IMAGE = "hodei-redis:e2e-test"
POSTGRES_IMAGE = "hodei-postgres:e2e-test"
TOKEN = "the token of the containered tests"
DATA = "/var/lib/hodei"
FAKE_PROVIDER_ID = UUID("f4cef4ce-f4ce-f4ce-f4ce-f4cef4cef4ce")
EVENTS_OF_A_JOB = ["JobCreated", "JobAssigned", "JobAccepted", "JobStatusChanged", "JobStatusChanged"]
AUDIT_OF_A_JOB = [
    (saga_type, "COMPLETED", event, step)
    for saga_type in SAGAS_OF_A_JOB
    for event, step in [
        ("SagaStarted", None),
        *((event, step) for step in SAGA_STEPS[saga_type] for event in ("StepStarted", "StepCompleted")),
        ("SagaCompleted", None),
    ]
]


class Member(CeleryTestContainer):
    """A container that only has to run; whether it is well is asked of the whole platform, over HTTP."""

    def ready(self) -> bool:
        self.reload()
        assert self.status in ("created", "running"), f"{self.name} is {self.status}: {self.logs()[-3000:]}"
        return self.status == "running"


class Controller(CeleryWorkerContainer, Member):
    """Our image as the Celery worker under test: ``hodei controller``, process 1 of its container."""

    ready = Member.ready

    @classmethod
    def command(
        cls, *args: str, debugpy: bool = False, wait_for_client: bool = True, **kwargs: Any
    ) -> list[str]:
        return ["controller"]

    @classmethod
    def worker_name(cls) -> str:
        return "controller-1"

    @classmethod
    def worker_queue(cls) -> str:
        return STEPS

    @classmethod
    def initial_env(
        cls, celery_worker_cluster_config: dict[str, Any], initial: dict[str, str] | None = None
    ) -> Any:
        [broker_url] = celery_worker_cluster_config["celery_broker_cluster_config"]["urls"]
        return {"HODEI_REDIS_URL": broker_url, **(initial or {})}


class Broker(RedisContainer):
    """Redis as Debian packages it; it keeps nothing over a restart."""

    @classmethod
    def image(cls) -> str:
        return REDIS_IMAGE

    @property
    def port(self) -> int:
        """As published on this machine, also when the tests are in a container themselves."""
        return int(self.ports["6379/tcp"][0])

    @property
    def host_url(self) -> str:
        return f"{self.prefix()}127.0.0.1:{self.port}/{self.vhost}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[redis.Redis[str]]:
        """A client of it, closed afterwards."""
        with redis.Redis.from_url(self.host_url, decode_responses=True, socket_timeout=10) as client:
            yield client

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Its process stands still meanwhile: connections stay, and nobody gets an answer."""
        self._container.pause()
        try:
            yield
        finally:
            self._container.unpause()

    def make_unacknowledged_look_old(self, deployment: str) -> int:
        """Everything that was delivered and is not acknowledged looks as if its visibility time-out were over: Celery's
        transport then delivers it again. Answers how many messages that were."""
        key = f"{key_prefix(deployment)}unacked_index"
        with self.opened() as client:
            tags = client.zrange(key, 0, -1)
            for tag in tags:
                client.zadd(key, {tag: 1.0}, xx=True)
            return len(tags)


@dataclass(kw_only=True)
class ContaineredPlatform:
    """Where the platform's front door is, and its tables, as the tests reach them from this machine."""

    url: str
    database_url: str
    fleet: Member

    def client(self) -> HodeiClient:
        return HodeiClient(self.url, TOKEN, timeout_s=10)

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.database_url)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                psycopg2.extras.register_uuid(conn_or_curs=cursor)
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    @property
    def deployment(self) -> str:
        return str(self.sql("SELECT id FROM hodei.deployment")[0][0])

    def wait_until_well(self, *, within_s: float = 60.0) -> None:
        """Until the orchestrator says that everything is."""

        def well() -> bool:
            try:
                with self.client() as client:
                    return client.health().status == "ok"
            except Exception:
                return False

        until(well, within_s=within_s, what="the containered platform's health")

    def add_fleet_provider(self, *, max_workers: int, **config: Any) -> None:
        """The provider `fake`, whose workers live in the fleet's container: they survive every controller."""
        self.sql(
            "INSERT INTO provider_configs (id, name, provider_type, status, config, max_workers, capabilities) VALUES "
            """(%s, 'fake', 'fake', 'ACTIVE', %s, %s, '{"images": true, "cpu_limits": true, "memory_limits": true}')""",
            FAKE_PROVIDER_ID,
            json.dumps(config),
            max_workers,
        )

    def submit(self, count: int, command: str) -> list[str]:
        """So many jobs on the fleet, in one request."""
        job = {"name": "containered", "provider": "fake", "command": command}
        with self.client() as client:
            return [made.id for made in client.create_jobs([job] * count)]

    def states(self, job_ids: Sequence[str]) -> Counter[str]:
        """How many of these jobs are in which state."""
        query = "SELECT state, count(*) FROM jobs WHERE id = ANY(%s::uuid[]) GROUP BY state"
        return Counter(dict(self.sql(query, list(job_ids))))

    def wait_for(self, job_ids: Sequence[str], state: str, at_least: int, *, within_s: float = 30.0) -> None:
        until(
            lambda: self.states(job_ids)[state] >= at_least,
            within_s=within_s,
            what=f"{at_least} of {len(job_ids)} jobs {state}",
        )

    def snapshot(self, job_ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """All that the tables say of these jobs, their attempts, workers, sagas and events, byte for byte."""
        one, ids = "SELECT to_jsonb(t)::text AS line FROM", "= ANY(%(ids)s::uuid[])"
        sagas = f"(SELECT id FROM sagas WHERE correlation_id {ids})"
        statement = (
            f"{one} jobs t WHERE id {ids} UNION ALL {one} hodei.executions t WHERE job_id {ids} "
            f"UNION ALL {one} domain_events t WHERE correlation_id {ids} UNION ALL {one} sagas t WHERE id IN {sagas} "
            f"UNION ALL {one} saga_steps t WHERE saga_id IN {sagas} "
            f"UNION ALL {one} saga_audit_events t WHERE saga_id IN {sagas} "
            f"UNION ALL {one} workers t WHERE id IN (SELECT subject_id FROM sagas WHERE correlation_id {ids}) ORDER BY line"
        )
        return self.sql(statement.replace("%(ids)s", "(%s)"), *[list(job_ids)] * statement.count("%(ids)s"))

    def wait_until_ended(self, job_ids: Sequence[str], *, within_s: float) -> list[Job]:
        """The jobs as HTTP shows them once all have ended and their workers are gone."""
        ends = {"SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT"}

        def ended() -> bool:
            states = self.states(job_ids)
            assert sum(states.values()) == len(job_ids), "a job is lost"
            return set(states) <= ends

        def settled() -> bool:
            [(open_sagas, live_workers)] = self.sql(
                "SELECT (SELECT count(*) FROM sagas WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')), "
                "(SELECT count(*) FROM workers WHERE state <> 'TERMINATED')"
            )
            return not open_sagas and not live_workers

        try:
            until(ended, within_s=within_s, what=f"the end of {len(job_ids)} jobs")
            until(settled, within_s=25, what="the end of all sagas and workers")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.what_is_open()}") from None
        with self.client() as client:
            return [client.job(job_id) for job_id in job_ids]

    def what_is_open(self) -> str:
        """For the message of a failure: what has not ended, and what it waits for."""
        rows = self.sql(
            "SELECT s.saga_type, s.state, st.step_name, st.state, j.state, s.nudges, s.waiting_until - clock_timestamp(), "
            "s.nudge_after - clock_timestamp(), s.lease_expires - clock_timestamp() FROM sagas s "
            "JOIN saga_steps st ON st.saga_id = s.id AND st.state <> 'COMPLETED' JOIN jobs j ON j.id = s.correlation_id "
            "WHERE s.state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING') ORDER BY s.started_at, st.step_order"
        )
        rows += self.sql(
            "SELECT 'worker', state, termination_reason FROM workers WHERE state <> 'TERMINATED'"
        )
        return "\n".join(" | ".join(str(value) for value in row) for row in rows)

    def check_ran_once(self, jobs: Sequence[Job], *, log: str) -> None:
        """Each of these jobs succeeded in its first attempt, was started exactly once, and its tables say no more."""
        ids = [job.id for job in jobs]
        _same([(job.status, job.attempts) for job in jobs], [("succeeded", 1)] * len(jobs))
        with self.client() as client:
            _same({job_id: client.log_text(job_id) for job_id in ids}, dict.fromkeys(ids, log))
        self._check_witness(ids)
        self._check_records(ids)
        waiting = "SELECT count(*) FROM outbox_events WHERE status <> 'PUBLISHED'"
        until(lambda: self.sql(waiting) == [(0,)], within_s=15, what="the relay of the whole outbox")

    def _check_witness(self, job_ids: Sequence[str]) -> None:
        """By the fleet's own record: one life of each worker that was provisioned, one performance of each job."""
        facts = [json.loads(line) for line in self.fleet.logs().splitlines() if line.startswith("{")]
        lives = Counter(fact["worker_id"] for fact in facts if fact["what"] == "life")
        runs = Counter((fact["job_id"], fact["attempt"]) for fact in facts if fact["what"] == "run")
        made = "SELECT subject_id::text FROM sagas WHERE saga_type = 'PROVISIONING' AND correlation_id = ANY(%s::uuid[])"
        workers = [row[0] for row in self.sql(made, list(job_ids))]
        _same(len(workers), len(job_ids))
        _same(set(lives.values()), {1})
        _same({worker_id: lives[worker_id] for worker_id in workers}, dict.fromkeys(workers, 1))
        _same(
            {run: count for run, count in runs.items() if run[0] in job_ids},
            {(job_id, 1): 1 for job_id in job_ids},
        )

    def _check_records(self, job_ids: Sequence[str]) -> None:
        """What the tables say of each job is what they say of one that nothing happened to."""
        events, executions, sagas = (defaultdict(list) for _ in range(3))
        ids, these = list(job_ids), "= ANY(%s::uuid[])"
        for job_id, event in self.sql(
            f"SELECT aggregate_id::text, event_type FROM domain_events WHERE aggregate_id {these} ORDER BY occurred_at",
            ids,
        ):
            events[job_id].append(event)
        _same(events, {job_id: EVENTS_OF_A_JOB for job_id in job_ids})
        for job_id, state in self.sql(
            f"SELECT job_id::text, state FROM hodei.executions WHERE job_id {these}", ids
        ):
            executions[job_id].append(state)
        _same(executions, {job_id: ["completed"] for job_id in job_ids})
        for job_id, *line in self.sql(
            "SELECT s.correlation_id::text, saga_type, state, event_type, step_name FROM sagas s "
            f"JOIN saga_audit_events a ON a.saga_id = s.id WHERE s.correlation_id {these} "
            "ORDER BY s.started_at, s.id, a.occurred_at",
            ids,
        ):
            sagas[job_id].append(tuple(line))
        _same(sagas, {job_id: AUDIT_OF_A_JOB for job_id in job_ids})


def _same(found: Any, expected: Any) -> None:
    """Fails with what differs: pytest explains asserts only in test modules."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
        found, expected = ({key: side.get(key) for key in keys} for side in (found, expected))
    assert found == expected, f"found {found}\nexpected {expected}"
