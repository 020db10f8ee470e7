"""Providers and workers by hand where they are containers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from support.pipelines import plain_pipeline
from support.platform import RunningPlatform
from support.waiting import until

from hodei.client.client import HodeiClient

pytestmark = pytest.mark.docker


@pytest.fixture
def client(docker_running: RunningPlatform) -> Iterator[HodeiClient]:
    with docker_running.client() as opened:
        yield opened


def containers(worker_id: str) -> list[dict[str, Any]]:
    """What Docker shows of this worker, running or not."""
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=hodei.worker.id={worker_id}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if not listed:
        return []
    shown = subprocess.run(["docker", "inspect", *listed], capture_output=True, text=True, check=False)
    return json.loads(shown.stdout)


def test_a_worker_by_hand_is_a_container_for_many_jobs_until_it_is_stopped(client: HodeiClient) -> None:
    # given, on the default provider
    worker = client.start_worker({"type": "rust"}, wait_s=60)
    assert (worker.status, worker.provider_type, worker.type) == ("running", "docker", "rust")
    [container] = containers(worker.id)

    # when
    names = []
    for _ in range(2):
        job_id = client.create_job(
            {"name": "d", "pipeline_id": plain_pipeline(client), "provider": "docker"}
        ).id
        client.execute(job_id, "hostname", wait_s=60)
        ended = client.wait(job_id)
        assert (ended.status, ended.worker_id) == ("succeeded", worker.id)
        names.append(client.log_text(job_id).strip())

    # then both ran in it
    assert set(names) == {container["Config"]["Hostname"]}

    # when
    client.stop_worker(worker.id)

    # then
    until(lambda: client.worker(worker.id).state == "TERMINATED", what="its end")
    assert containers(worker.id) == []


def test_a_second_provider_of_docker_makes_workers_its_own_way(client: HodeiClient) -> None:
    # given
    name = f"small-{uuid4().hex[:8]}"
    added = client.add_provider(
        {"name": name, "type": "docker", "config": {"pids_limit": 77}, "max_workers": 1}
    )
    assert added.status == "active", added.status_reason

    # when
    worker = client.start_worker({"type": "rust", "provider": name}, wait_s=60)

    # then
    [container] = containers(worker.id)
    assert container["HostConfig"]["PidsLimit"] == 77

    # when it is changed
    client.stop_worker(worker.id)
    until(lambda: client.worker(worker.id).state == "TERMINATED", what="its end")
    client.change_provider(name, {"config": {"pids_limit": 88}})

    # then what is made next is so
    job = client.create_job({"command": "sleep 30", "provider": name}).id
    until(lambda: client.job(job).status == "running", within_s=60, what="its beginning")
    [container] = containers(str(client.job(job).worker_id))
    assert container["HostConfig"]["PidsLimit"] == 88
    client.cancel(job)
    client.wait(job)
    until(lambda: client.provider_stats(name).places_taken == 0, what="its end")
    client.remove_provider(name)


def test_one_that_cannot_be_reached_is_there_and_says_so(client: HodeiClient) -> None:
    added = client.add_provider(
        {"name": "nowhere", "type": "docker", "config": {"docker_host": "tcp://127.0.0.1:9"}}
    )

    assert added.status == "unhealthy"
    job_id = client.create_job({"command": "true", "provider": "nowhere"}).id
    assert client.why(job_id).summary.startswith("It waits for provider nowhere, which is UNHEALTHY: ")
    client.cancel(job_id)
    client.remove_provider("nowhere")
