"""What people type first, on Kubernetes: each ends as its command does, and every record of it is as the contract says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clusters import Cluster
from support.containers import docker
from support.contract_checks import GONE_WITHIN_S, check_finished_job, check_public_schema
from support.k8s_stand_in.cluster import WORKERS
from support.platform import RunningPlatform
from support.pods import Follower, followed, left, of, running
from support.waiting import until

pytestmark = pytest.mark.docker

TYPED = {
    "test-echo": r"""hodei job run --name test-echo --provider kubernetes --command "echo 'Hello from Hodei Kubernetes Worker!'" --timeout 30""",
    "test-multicmd": r"""hodei job run --name test-multicmd --provider kubernetes --command "bash -c 'echo Step1 && sleep 1 && echo Step2 && sleep 1 && echo Step3'" --timeout 60""",
    "test-env": r"""hodei job run --name test-env --provider kubernetes --command "bash -c 'echo MY_VAR=\$MY_VAR && echo NUM_VAR=\$NUM_VAR'" --env "MY_VAR=hello_world,NUM_VAR=42" --timeout 30""",
    "test-args": r"""hodei job run --name test-args --provider kubernetes --command "bash" --args "-c 'echo Processing file test.txt && echo Done'" --timeout 30""",
}  # fmt: skip
OUTPUT = {
    "test-echo": "Hello from Hodei Kubernetes Worker!\n",
    "test-multicmd": "Step1\nStep2\nStep3\n",
    "test-env": "MY_VAR=hello_world\nNUM_VAR=42\n",
    "test-args": "Processing file test.txt\nDone\n",
}


@pytest.fixture(scope="module")
def follower(kube: RunningPlatform, cluster: Cluster) -> Iterator[Follower]:
    with followed(cluster, kube) as follower:
        yield follower


@pytest.fixture(scope="module")
def typed(kube: RunningPlatform, follower: Follower) -> dict[str, str]:
    """All of them typed into a shell, one after the other; name → what stdout got."""
    programs = str(Path(sys.executable).parent)
    env = kube.env | {"PATH": f"{programs}:{os.environ['PATH']}"}
    shell = {"shell": True, "executable": "/bin/bash", "env": env, "cwd": "/", "text": True}
    return {name: subprocess.check_output(line, **shell) for name, line in TYPED.items()}


@pytest.mark.parametrize("name", TYPED)
def test_a_typed_command_succeeds_in_a_pod_and_leaves_exactly_the_records_of_the_contract(
    kube: RunningPlatform, cluster: Cluster, follower: Follower, typed: dict[str, str], name: str
) -> None:
    # given
    job_id = typed[name].removesuffix("\n")

    # when
    shown = kube.hodei("job", "get", "--id", job_id, "--wait")

    # then
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "Status: SUCCEEDED (Status Code: 4)" in shown.stdout.splitlines()
    assert kube.hodei("job", "logs", job_id).stdout == OUTPUT[name]
    job = check_finished_job(kube, job_id, log=OUTPUT[name].encode())
    assert (job["name"], job["exit_code"], job["error_code"]) == (name, 0, None)
    _check_pod_is_gone(kube, cluster, job["worker_id"])
    [(resource_id,)] = kube.sql(
        "SELECT provider_resource_id FROM workers WHERE id::text = %s", job["worker_id"]
    )
    assert resource_id == f"hodei-worker-{job['worker_id']}"
    assert follower.of(job_id).name == resource_id


def test_the_log_of_a_pod_followed_is_the_stored_log(
    kube: RunningPlatform, follower: Follower, cluster: Cluster
) -> None:
    # given
    line = "for i in 1 2 3 4 5 6; do echo line $i; echo warning $i >&2; sleep 0.4; done; printf 'no end'"

    # when
    done = kube.hodei("job", "run", "--provider", "kubernetes", "--command", line, "--wait")

    # then
    job_id = done.stdout.strip()
    lines = follower.of(job_id).log.decode().split("\n")
    stored = kube.hodei("job", "logs", job_id)
    assert [one for one in lines if one.startswith("warning")] == stored.stderr.splitlines()
    assert [one for one in lines if not one.startswith("warning")] == stored.stdout.split("\n")
    assert stored.stdout.endswith("line 6\nno end") and stored.stderr.count("warning") == 6


def test_a_command_that_exits_with_3_fails_with_its_code_and_keeps_its_stderr(
    kube: RunningPlatform, cluster: Cluster
) -> None:
    # when
    line = "echo working; echo it is broken >&2; exit 3"
    done = kube.hodei("job", "run", "--provider", "kubernetes", "--command", line, "--wait")

    # then
    job_id = done.stdout.strip()
    assert done.returncode == 3
    assert "Status: FAILED (Status Code: 5)" in done.stderr and "ERR_1007" in done.stderr
    job = check_finished_job(kube, job_id, state="FAILED")
    assert (job["exit_code"], job["error_code"]) == (3, "ERR_1007")
    logs = kube.hodei("job", "logs", job_id)
    assert (logs.stdout, logs.stderr) == ("working\n", "it is broken\n")
    _check_pod_is_gone(kube, cluster, job["worker_id"])


def test_five_jobs_at_once_each_have_a_pod_of_their_own_that_is_seen_by_its_label_while_it_runs(
    kube: RunningPlatform, cluster: Cluster
) -> None:
    # given
    jobs = [
        {"name": f"five-{number}", "provider": "kubernetes", "command": "hostname; sleep 3"}
        for number in range(5)
    ]

    # when
    with kube.client() as client:
        ids = [job.id for job in client.create_jobs(jobs)]
        pods = until(lambda: _all_running(kube, cluster, ids), within_s=60, what="five pods at once")
        local = docker("ps", "--all", "--format", "{{.Names}}", "--filter", "name=hodei-worker").split()
        ended = [client.wait(job_id) for job_id in ids]
        hosts = {client.log_text(job_id).strip() for job_id in ids}

    # then
    assert [job.status for job in ended] == ["succeeded"] * 5
    assert hosts == pods, "a pod's host name is its name"
    rows = [check_finished_job(kube, job_id) for job_id in ids]
    assert {f"hodei-worker-{row['worker_id']}" for row in rows} == pods
    assert not pods & set(local), "a Kubernetes job makes no container outside its pod"
    for row in rows:
        _check_pod_is_gone(kube, cluster, row["worker_id"])
    until(lambda: left(cluster, kube) == [], within_s=GONE_WITHIN_S, what="no pod and no Secret")


def test_workers_run_under_restricted_pod_security(kube: RunningPlatform, cluster: Cluster) -> None:
    # given
    labels = cluster.core.read_namespace(WORKERS).metadata.labels
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    line = "id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; touch /usr/x; touch /tmp/x $HOME/x && pwd; sleep 2"

    # when
    with kube.client() as client:
        job_id = client.create_job({"name": "confined", "provider": "kubernetes", "command": line}).id
        pod = until(lambda: running(cluster, kube, job_id), within_s=30, what="the pod")
        client.wait(job_id)
        lines = client.log_bytes(job_id, stream="stdout").decode().split("\n")
        errors = client.log_bytes(job_id, stream="stderr").decode()

    # then
    values = [one.split()[-1] for one in lines[:4]]
    assert values == ["10001", "0000000000000000", "1", "2"]
    assert "Read-only file system" in errors and lines[4].startswith("/")
    assert pod and pod.spec.service_account_name == "hodei-jobs-worker"


def test_the_database_shows_what_an_operator_looks_for(kube: RunningPlatform) -> None:
    # then
    check_public_schema(kube)
    providers = kube.sql("SELECT id::text, provider_type, status FROM provider_configs ORDER BY id")
    assert providers == [("22222222-2222-2222-2222-222222222222", "kubernetes", "ACTIVE")]


def test_a_running_job_is_cancelled_with_its_pod(kube: RunningPlatform, cluster: Cluster) -> None:
    # given
    line = "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    job_id = kube.hodei("job", "run", "--provider", "kubernetes", "--command", line).stdout.strip()
    with kube.client() as client:
        until(lambda: client.log_text(job_id) == "up\n", within_s=30, what="the job's start")

        # when
        kube.hodei("job", "cancel", job_id)
        ended = client.wait(job_id)

        # then
        assert ended.status == "cancelled"
        assert client.log_bytes(job_id, stream="stdout") == b"up\ntold\n"
    _check_pod_is_gone(kube, cluster, ended.worker_id)


def test_a_job_that_takes_too_long_is_ended_with_its_pod(kube: RunningPlatform, cluster: Cluster) -> None:
    # when
    done = kube.hodei(
        "job",
        "run",
        "--provider",
        "kubernetes",
        "--command",
        "echo up; sleep 600",
        "--timeout",
        "2",
        "--wait",
    )

    # then
    job_id = done.stdout.strip()
    [(state, code, worker_id)] = kube.sql(
        "SELECT state, error_code, worker_id::text FROM jobs WHERE id::text = %s", job_id
    )
    assert (state, code) == ("TIMEOUT", "ERR_1005")
    assert kube.hodei("job", "logs", job_id).stdout == "up\n"
    _check_pod_is_gone(kube, cluster, worker_id)


def _all_running(kube: RunningPlatform, cluster: Cluster, ids: list[str]) -> set[str] | None:
    """The names of the jobs' pods, once all of them run at the same moment."""
    pods = cluster.pods(of(kube))
    names = {
        pod.metadata.name
        for pod in pods
        if any(one.state.running for one in pod.status.container_statuses or ())
    }
    jobs = {pod.metadata.labels["hodei.io/job-id"] for pod in pods if pod.metadata.name in names}
    return names if jobs == set(ids) else None


def _check_pod_is_gone(kube: RunningPlatform, cluster: Cluster, worker_id: str | None) -> None:
    name = f"hodei-worker-{worker_id}"
    until(lambda: cluster.traces(name) == [], within_s=GONE_WITHIN_S, what=f"the end of {name}")
