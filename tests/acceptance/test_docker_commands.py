"""What people type first, on Docker: each ends as its command does, and every record of it is as the contract says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.containers import Follower, containers, followed
from support.contract_checks import GONE_WITHIN_S, check_finished_job, check_public_schema
from support.platform import RunningPlatform
from support.waiting import until

pytestmark = pytest.mark.docker

TYPED = {
    "test-echo": r"""hodei job run --name test-echo --provider docker --command "echo 'Hello from Hodei Docker Worker!'" --timeout 30""",
    "test-multicmd": r"""hodei job run --name test-multicmd --provider docker --command "bash -c 'echo Step1 && sleep 1 && echo Step2 && sleep 1 && echo Step3'" --timeout 60""",
    "test-long": r"""hodei job run --name test-long --provider docker --command "for i in 1 2 3 4 5; do echo Iteration \$i; sleep 2; done" --timeout 120""",
    "test-env": r"""hodei job run --name test-env --provider docker --command "bash -c 'echo MY_VAR=\$MY_VAR && echo NUM_VAR=\$NUM_VAR'" --env "MY_VAR=hello_world,NUM_VAR=42" --timeout 30""",
    "test-args": r"""hodei job run --name test-args --provider docker --command "bash" --args "-c 'echo Processing file test.txt && echo Done'" --timeout 30""",
}  # fmt: skip
OUTPUT = {
    "test-echo": "Hello from Hodei Docker Worker!\n",
    "test-multicmd": "Step1\nStep2\nStep3\n",
    "test-long": "Iteration 1\nIteration 2\nIteration 3\nIteration 4\nIteration 5\n",
    "test-env": "MY_VAR=hello_world\nNUM_VAR=42\n",
    "test-args": "Processing file test.txt\nDone\n",
}


@pytest.fixture(scope="module")
def follower(docker_running: RunningPlatform) -> Iterator[Follower]:
    with followed(docker_running) as follower:
        yield follower


@pytest.fixture(scope="module")
def typed(docker_running: RunningPlatform, follower: Follower) -> dict[str, str]:
    """All five typed into a shell, one after the other; name → what stdout got."""
    programs = str(Path(sys.executable).parent)
    env = docker_running.env | {"PATH": f"{programs}:{os.environ['PATH']}"}
    shell = {"shell": True, "executable": "/bin/bash", "env": env, "cwd": "/", "text": True}
    return {name: subprocess.check_output(line, **shell) for name, line in TYPED.items()}


@pytest.mark.parametrize("name", TYPED)
def test_a_typed_command_succeeds_and_leaves_exactly_the_records_of_the_contract(
    docker_running: RunningPlatform, follower: Follower, typed: dict[str, str], name: str
) -> None:
    # given
    job_id = typed[name].removesuffix("\n")

    # when
    shown = docker_running.hodei("job", "get", "--id", job_id, "--wait")

    # then
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "Status: SUCCEEDED (Status Code: 4)" in shown.stdout.splitlines()
    assert docker_running.hodei("job", "logs", job_id).stdout == OUTPUT[name]
    job = check_finished_job(docker_running, job_id, log=OUTPUT[name].encode())
    assert (job["name"], job["exit_code"], job["error_code"]) == (name, 0, None)
    _check_container_is_gone(docker_running, job["worker_id"])
    lived = follower.of(job_id)
    assert (lived.stdout.decode(), lived.stderr.decode()) == (OUTPUT[name], "")
    [(resource_id,)] = docker_running.sql(
        "SELECT provider_resource_id FROM workers WHERE id::text = %s", job["worker_id"]
    )
    assert resource_id == lived.id


def test_the_database_shows_what_an_operator_looks_for(docker_running: RunningPlatform) -> None:
    # then
    check_public_schema(docker_running)
    providers = docker_running.sql("SELECT id::text, provider_type, status FROM provider_configs ORDER BY id")
    assert providers == [
        ("11111111-1111-1111-1111-111111111111", "docker", "ACTIVE"),
        ("33333333-3333-3333-3333-333333333333", "process", "ACTIVE"),
    ]


def test_a_command_that_exits_with_3_fails_with_its_code_and_keeps_its_stderr(
    docker_running: RunningPlatform, follower: Follower
) -> None:
    # when
    line = "echo working; echo it is broken >&2; exit 3"
    done = docker_running.hodei("job", "run", "--provider", "docker", "--command", line, "--wait")

    # then
    job_id = done.stdout.strip()
    assert done.returncode == 3
    assert "Status: FAILED (Status Code: 5)" in done.stderr and "ERR_1007" in done.stderr
    job = check_finished_job(docker_running, job_id, state="FAILED")
    assert (job["exit_code"], job["error_code"]) == (3, "ERR_1007")
    logs = docker_running.hodei("job", "logs", job_id)
    assert (logs.stdout, logs.stderr) == ("working\n", "it is broken\n")
    lived = follower.of(job_id)
    assert (lived.stdout, lived.stderr) == (b"working\n", b"it is broken\n")
    _check_container_is_gone(docker_running, job["worker_id"])


def test_a_command_that_does_not_exist_is_named_as_the_cause(docker_running: RunningPlatform) -> None:
    # when
    by_shell = docker_running.hodei(
        "job", "run", "--provider", "docker", "--command", "no-such-program -x", "--wait"
    )
    directly = docker_running.hodei(
        "job", "run", "--provider", "docker", "--command", "no-such-program", "--args", "-x", "--wait"
    )

    # then
    for done in (by_shell, directly):
        job = check_finished_job(docker_running, done.stdout.strip(), state="FAILED")
        assert (done.returncode, job["exit_code"], job["error_code"]) == (127, 127, "ERR_1001")


def test_five_jobs_at_once_each_have_a_container_of_their_own(docker_running: RunningPlatform) -> None:
    # given
    jobs = [
        {"name": f"five-{number}", "provider": "docker", "command": "hostname; sleep 1"}
        for number in range(5)
    ]

    # when
    with docker_running.client() as client:
        ids = [job.id for job in client.create_jobs(jobs)]
        ended = [client.wait(job_id) for job_id in ids]
        hosts = {client.log_text(job_id) for job_id in ids}

    # then
    assert [job.status for job in ended] == ["succeeded"] * 5
    assert len(hosts) == 5, "a container's host name is its id"
    rows = [check_finished_job(docker_running, job_id) for job_id in ids]
    assert len({row["worker_id"] for row in rows}) == 5
    for row in rows:
        _check_container_is_gone(docker_running, row["worker_id"])
    assert containers(docker_running) == []


def _check_container_is_gone(platform: RunningPlatform, worker_id: str) -> None:
    name = f"hodei-worker-{worker_id}"
    until(lambda: name not in containers(platform), within_s=GONE_WITHIN_S, what="the container's end")
