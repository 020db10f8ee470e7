"""Providers, workers and executions by hand, on the whole platform with processes and with the fake provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from support.pipelines import plain_pipeline
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database
from support.waiting import until

from hodei.client.client import HodeiClient
from hodei.client.errors import ServerRefused


@pytest.fixture(scope="module")
def platform(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform of this module's own: its providers are switched off and on."""
    with fresh_database(servers) as url:
        with RunningPlatform(tmp_path_factory.mktemp("places"), url, servers.redis_url) as started:
            yield started


@pytest.fixture
def client(platform: RunningPlatform) -> Iterator[HodeiClient]:
    with platform.client() as opened:
        yield opened


@pytest.fixture
def provider(client: HodeiClient) -> Iterator[str]:
    """A further provider of processes, gone after the test."""
    name = f"more-{uuid4().hex[:8]}"
    added = client.add_provider({"name": name, "type": "process", "max_workers": 1, "labels": {"zone": name}})
    assert (added.status, added.type) == ("active", "process")
    yield name
    client.disable_provider(name)
    workers = [worker.id for worker in client.workers(provider=name) if worker.status != "stopped"]
    for worker in workers:
        client.stop_worker(worker)
    until(lambda: not live(client, name), what="the end of its workers")
    client.remove_provider(name)


def live(client: HodeiClient, provider: str) -> list[str]:
    return [worker.id for worker in client.workers(provider=provider) if worker.status != "stopped"]


def definition(client: HodeiClient, **more: Any) -> str:
    """A job that is held."""
    return client.create_job({"name": "definition", "pipeline_id": plain_pipeline(client)} | more).id


def text(client: HodeiClient, job_id: str) -> str:
    return client.log_text(job_id).strip()


def test_a_worker_by_hand_takes_one_execution_after_the_other(client: HodeiClient, provider: str) -> None:
    # given a worker that is connected when it is answered
    worker = client.start_worker({"type": "rust", "provider": provider})
    assert (worker.type, worker.status, worker.state) == ("rust", "running", "READY")
    assert worker.document["started_at"] is not None

    for word in ("one", "two"):
        # when
        job_id = definition(client, provider=provider)
        begun = client.execute(job_id, f"echo {word}")

        # then
        assert (begun.job_id, begun.command) == (job_id, f"echo {word}")
        assert begun.started_at is not None
        ended = client.wait(job_id)
        assert (ended.status, ended.worker_id) == ("succeeded", worker.id)
        assert text(client, job_id) == word
        execution = client.execution(begun.id)
        assert (execution.status, execution.exit_code, execution.worker_id) == ("completed", 0, worker.id)

    # when
    client.drain_worker(worker.id)

    # then
    until(lambda: client.worker(worker.id).state == "TERMINATED", what="its end")


def test_what_has_ended_is_executed_again_and_keeps_its_past(client: HodeiClient) -> None:
    job_id = client.create_job({"command": "echo one", "provider": "process"}).id
    client.wait(job_id)

    begun = client.execute(job_id, "echo two; exit 3", wait_s=60)
    assert client.wait(job_id).exit_code == 3

    assert [(one.command, one.status) for one in client.executions(job_id)] == [
        ("echo one", "completed"),
        ("echo two; exit 3", "failed"),
    ]
    assert client.executions(job_id)[1].id == begun.id
    assert text(client, job_id) == "two"


def test_a_job_that_runs_is_not_executed_besides(client: HodeiClient) -> None:
    job_id = client.create_job({"command": "sleep 60", "provider": "process"}).id
    until(lambda: client.job(job_id).status == "running", what="its beginning")

    with pytest.raises(ServerRefused, match="RUNNING"):
        client.execute(job_id, "echo besides")

    client.cancel(job_id)
    assert client.wait(job_id).status == "cancelled"


def test_an_idle_worker_is_ended_after_its_limit(client: HodeiClient, provider: str) -> None:
    worker = client.start_worker({"type": "short", "provider": provider, "idle_s": 1})

    until(lambda: client.worker(worker.id).state == "TERMINATED", within_s=20, what="its end")

    assert client.worker(worker.id).termination_reason == "it had no job for 1 s"
    until(lambda: client.provider_stats(provider).places_taken == 0, what="its place")


def test_a_stopped_worker_gives_its_job_to_another(
    platform: RunningPlatform, client: HodeiClient, provider: str
) -> None:
    # given
    job_id = client.create_job({"command": "echo began; sleep 30; echo ended", "provider": provider}).id
    until(lambda: client.job(job_id).status == "running", what="its beginning")
    first = client.job(job_id).worker_id

    # when
    done = platform.hodei("worker", "stop", str(first))

    # then
    assert (done.returncode, done.stdout) == (0, f"{first}: DRAINING.\n")
    until(lambda: client.worker(str(first)).state == "TERMINATED", within_s=20, what="its end")
    until(lambda: client.job(job_id).attempts == 2, within_s=20, what="the next attempt")
    assert client.job(job_id).worker_id != first
    assert client.executions(job_id)[0].error is not None
    assert client.log_text(job_id, attempt=1).startswith("began")
    client.cancel(job_id)
    client.wait(job_id)


def test_a_provider_that_is_switched_off_gets_nothing_and_says_so(
    platform: RunningPlatform, client: HodeiClient, provider: str
) -> None:
    # given
    done = platform.hodei("provider", "disable", provider, "--maintenance", "--reason", "new disks")
    assert (done.returncode, done.stdout) == (0, f"{provider}: MAINTENANCE. new disks\n")

    # when
    job_id = client.create_job({"command": "echo late", "provider": provider}).id

    # then
    assert client.why(job_id).summary == f"It waits for provider {provider}, which is MAINTENANCE: new disks"
    with pytest.raises(ServerRefused, match="new disks"):
        client.start_worker({"type": "rust", "provider": provider})

    # when
    assert platform.hodei("provider", "enable", provider).stdout == f"{provider}: ACTIVE.\n"

    # then
    assert client.wait(job_id).status == "succeeded"


def test_a_job_is_placed_by_the_labels_that_it_requires(
    platform: RunningPlatform, client: HodeiClient, provider: str
) -> None:
    job = platform.hodei(
        "job", "run", "--provider", provider, "--require", f"zone={provider}", "--command", "true", "--wait"
    )
    assert job.returncode == 0

    refused = platform.hodei(
        "job", "run", "--provider", "process", "--require", "zone=x", "--command", "true"
    )
    assert refused.returncode == 3
    assert "zone=x" in refused.stderr


def test_less_room_and_more_room_count_at_once(client: HodeiClient, provider: str) -> None:
    jobs = [client.create_job({"command": "sleep 60", "provider": provider}).id for _ in range(2)]
    until(lambda: client.job(jobs[0]).status == "running", what="the first one's beginning")
    assert client.job(jobs[1]).status == "pending"

    client.change_provider(provider, {"max_workers": 2})

    until(lambda: client.job(jobs[1]).status == "running", what="the second one's beginning")
    stats = client.provider_stats(provider)
    assert (stats.places_taken, stats.places_free, stats.jobs["running"]) == (2, 0, 2)
    with pytest.raises(ServerRefused, match="in use"):
        client.remove_provider(provider)
    for job_id in jobs:
        client.cancel(job_id)
        client.wait(job_id)


def test_a_mistake_in_a_configuration_names_its_key(client: HodeiClient) -> None:
    with pytest.raises(ServerRefused) as refused:
        client.add_provider({"name": "eu", "type": "docker", "config": {"pids_limit": 1}})

    assert refused.value.field == "config.pids_limit"
    assert "eu" not in [item.name for item in client.providers()]


def test_many_workers_by_hand_on_the_fake_provider(platform: RunningPlatform, client: HodeiClient) -> None:
    # given
    platform.sql(
        "INSERT INTO provider_configs (id, name, provider_type, status, max_workers, capabilities)"
        " VALUES (gen_random_uuid(), 'fake', 'fake', 'ACTIVE', 5, %s)",
        json.dumps({"images": True}),
    )

    # when
    workers = [client.start_worker({"type": "rust", "provider": "fake"}) for _ in range(5)]

    # then
    assert {worker.state for worker in workers} == {"READY"}
    with pytest.raises(ServerRefused, match="no room"):
        client.start_worker({"type": "rust", "provider": "fake"})

    # when each has had many jobs
    jobs = [client.create_job({"command": "echo x", "provider": "fake"}).id for _ in range(30)]
    ended = [client.wait(job_id) for job_id in jobs]

    # then
    assert {job.status for job in ended} == {"succeeded"}
    assert {job.worker_id for job in ended} <= {worker.id for worker in workers}
    for worker in workers:
        client.stop_worker(worker.id)
    until(lambda: not live(client, "fake"), what="their end")
    assert client.provider_stats("fake").places_taken == 0
    client.disable_provider("fake")
    client.remove_provider("fake")
