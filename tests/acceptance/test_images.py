"""A job's own image: with Python it works, without it fails soon, and one that is not there is named with what helps."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.containers import containers, inspect
from support.images import image_without_agent, image_without_python
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database
from support.waiting import until

pytestmark = pytest.mark.docker


def test_an_image_with_python_and_without_the_agent_runs_a_job(
    docker_running: RunningPlatform, docker_image: str
) -> None:
    with image_without_agent(docker_image) as image:
        # when
        line = "test ! -e /opt/hodei/hodei_agent/__pycache__ && echo from my image"
        done = docker_running.hodei(
            "job", "run", "--provider", "docker", "--image", image, "--command", line, "--wait"
        )

        # then
        assert done.returncode == 0, done.stderr
        assert docker_running.hodei("job", "logs", done.stdout.strip()).stdout == "from my image\n"
        until(lambda: containers(docker_running) == [], within_s=5, what="the container's end")


def test_an_image_without_python_fails_within_10_s_with_a_sentence(
    docker_running: RunningPlatform, docker_image: str
) -> None:
    with image_without_python(docker_image) as image:
        # when
        job_id = docker_running.hodei(
            "job", "run", "--provider", "docker", "--image", image, "--command", "true"
        ).stdout.strip()
        began = time.monotonic()
        with docker_running.client() as client:
            job = client.wait(job_id)
        took_s = time.monotonic() - began

        # then
        assert took_s < 10
        assert (job.status, job.error and job.error.code) == ("failed", "ERR_1010")
        assert job.error and "Python 3.8" in job.error.message and image in job.error.message
        _check_undone(docker_running, job_id)


def test_an_image_that_no_registry_has_fails_with_a_cause_that_names_it(
    docker_running: RunningPlatform,
) -> None:
    # when
    done = docker_running.hodei(
        "job",
        "run",
        "--provider",
        "docker",
        "--image",
        "localhost:1/no-such/image:1",
        "--command",
        "true",
        "--wait",
    )

    # then
    job_id = done.stdout.strip()
    assert done.returncode == 1
    assert "localhost:1/no-such/image:1" in done.stderr
    [(state, code)] = docker_running.sql("SELECT state, error_code FROM jobs WHERE id::text = %s", job_id)
    assert state == "FAILED" and code in ("ERR_3001", "ERR_3003"), "not there, or its registry is not"
    _check_undone(docker_running, job_id)


def test_a_default_image_that_was_not_built_is_named_with_the_command_that_builds_it(
    servers: Servers, docker_image: str, tmp_path: Path
) -> None:
    # given
    missing = "hodei-jobs-worker:never-built"
    with fresh_database(servers) as url:
        with RunningPlatform(
            tmp_path, url, servers.redis_url, docker_enabled="1", worker_image=missing
        ) as platform:
            # when
            health = platform.hodei("provider", "health", "docker")
            done = platform.hodei("job", "run", "--provider", "docker", "--command", "true", "--wait")

            # then
            build = f"docker build -t {missing} -f workers/Dockerfile workers"
            assert build in health.stdout + health.stderr
            assert done.returncode == 1 and "ERR_3001" in done.stderr and build in done.stderr
            _check_undone(platform, done.stdout.strip())


def _check_undone(platform: RunningPlatform, job_id: str) -> None:
    """The saga says what it undid, and nothing of the worker is left."""
    sagas = platform.sql(
        "SELECT DISTINCT state, metadata ->> 'outcome' FROM sagas WHERE correlation_id::text = %s", job_id
    )
    assert sagas == [("FAILED", "compensated")]
    steps = platform.sql(
        "SELECT step_name, s.state FROM saga_steps s JOIN sagas ON sagas.id = saga_id "
        "WHERE correlation_id::text = %s ORDER BY step_order",
        job_id,
    )
    assert all(state in ("COMPENSATED", "FAILED", "PENDING") for _, state in steps), steps
    until(
        lambda: (
            platform.sql(
                "SELECT bool_and(state = 'TERMINATED') FROM workers WHERE reserved_for::text = %s", job_id
            )
            in ([(True,)], [(None,)])
        ),
        within_s=5,
        what="the worker's end",
    )
    assert containers(platform, f"label=hodei.job.id={job_id}") == []
    assert platform.sql("SELECT max(places_taken) FROM provider_configs WHERE name = 'docker'") == [(0,)]


def test_limits_of_cpu_and_memory_and_the_confinement_show_in_docker_inspect(
    docker_running: RunningPlatform,
) -> None:
    # given
    line = "echo up; while [ ! -e $HOME/go ] && [ $SECONDS -lt 3 ]; do sleep 0.1; done"
    job_id = docker_running.hodei(
        "job", "run", "--provider", "docker", "--cpu", "0.5", "--memory", "128m", "--command", line
    ).stdout.strip()

    # when
    with docker_running.client() as client:
        until(lambda: client.job(job_id).status == "running", what="the job's start")
        [name] = containers(docker_running, f"label=hodei.job.id={job_id}")
        shown = inspect(name)
        job = client.wait(job_id)

    # then
    host, config = shown["HostConfig"], shown["Config"]
    assert name == f"hodei-worker-{job.worker_id}"
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (
        500_000_000,
        128 * 1024**2,
        128 * 1024**2,
    )
    assert host["PidsLimit"] > 0 and host["CapDrop"] == ["ALL"] and not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"] and not host["Binds"]
    assert config["User"].partition(":")[0] not in ("", "0", "root")
    assert config["Labels"]["hodei.managed"] == "true"
    assert config["Labels"]["hodei.worker.id"] == job.worker_id
    assert config["Labels"]["hodei.job.id"] == job_id
    assert job.status == "succeeded"
