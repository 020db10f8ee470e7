"""``docker compose up`` with ``deploy/compose.yaml``: all of it comes up well, runs jobs, keeps them in, and leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.composed import HODEI, ComposedPlatform
from support.containers import docker
from support.platform import CHECKOUT
from support.waiting import until

pytestmark = pytest.mark.docker

WITH_SOCKET = {"controller", "beat"}
E2E_S = 300.0
"""Within which the whole procedure must be over."""

KNOCK = """\
import socket, urllib.error, urllib.request

for host, port in {places}:
    try:
        socket.create_connection((host, port), 1).close()
        print(host, "answers")
    except OSError:
        print(host, "is not there")
try:
    urllib.request.urlopen("http://worker-manager.agents:8082/api/v1/workers", timeout=5)
except urllib.error.HTTPError as refused:
    print("an operators' route:", refused.code)
"""


def test_every_service_is_healthy_and_says_so_over_http(composed: ComposedPlatform) -> None:
    # when
    done = composed.hodei("status")

    # then
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if ": ok at " in line] == [
        f"{name}: ok at {composed.url(port)}"
        for name, port in (("orchestrator", 8080), ("scheduler", 8081), ("worker-manager", 8082))
    ]
    assert "provider docker: active" in done.stdout


def test_nothing_is_roots_can_write_to_its_root_or_gain_rights(composed: ComposedPlatform) -> None:
    for container in composed.containers().values():
        # when
        shown = composed.inspect(container)

        # then
        host = shown["HostConfig"]
        name = shown["Name"]
        assert shown["Config"]["User"].partition(":")[0] not in ("", "0", "root"), name
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"] and not host["Privileged"], name
        assert all(
            binding["HostIp"] == composed.address
            for bindings in (host["PortBindings"] or {}).values()
            for binding in bindings
        ), name


def test_the_docker_socket_is_only_where_workers_are_made_and_watched(composed: ComposedPlatform) -> None:
    # when
    mounted = {
        service
        for service, container in composed.containers().items()
        for mount in composed.inspect(container)["Mounts"]
        if mount["Destination"] == "/var/run/docker.sock"
    }

    # then
    assert mounted == WITH_SOCKET


def test_a_job_runs_in_a_container_and_its_log_is_followed_stored_and_exported(
    composed: ComposedPlatform,
) -> None:
    # when
    line = "echo from $HODEI_ATTEMPT; echo to stderr >&2"
    done = composed.hodei(
        "job", "run", "--provider", "docker", "--name", "hello", "--command", line, "--follow"
    )

    # then
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.splitlines()[0]
    logs = composed.hodei("job", "logs", job_id)
    assert (logs.stdout, logs.stderr) == ("from 1\n", "to stderr\n")
    assert "SUCCEEDED" in composed.hodei("job", "get", "--id", job_id).stdout
    [(uri, entries)] = composed.sql(
        "SELECT storage_uri, entry_count FROM job_log_files WHERE job_id = %s", job_id
    )
    assert uri.startswith(f"file:///tmp/hodei-logs/{job_id}/") and entries == 2
    exported = docker("exec", composed.containers()["orchestrator"], "cat", uri.removeprefix("file://"))
    assert "from 1" in exported
    until(lambda: composed.workers() == [], within_s=15, what="the container's end")


def test_a_job_reaches_the_agents_door_and_nothing_else_of_the_platform(composed: ComposedPlatform) -> None:
    # given
    networks = {
        service: composed.inspect(container)["NetworkSettings"]["Networks"]
        for service, container in composed.containers().items()
    }
    ports = {"postgres": 5432, "redis": 6379, "orchestrator": 8080, "worker-manager": 8082}
    places = [(networks[name][f"{composed.name}-network"]["IPAddress"], port) for name, port in ports.items()]
    places += [("postgres", 5432), ("redis", 6379), ("worker-manager.operators", 8082)]

    # when
    with composed.client() as client:
        script = KNOCK.format(places=places)
        job = client.create_job(
            {"name": "knock", "provider": "docker", "command": "python3", "args": ["-c", script]}
        )
        ended = client.wait(job.id)
        said = client.log_text(job.id).splitlines()

    # then
    assert ended.status == "succeeded", said
    assert said == [*(f"{host} is not there" for host, _ in places), "an operators' route: 404"]


def test_flower_wants_its_credentials(composed: ComposedPlatform) -> None:
    # when
    url = composed.url(5555) + "/workers?json=1"
    without, wrong, right = (
        httpx.get(url, auth=auth, timeout=10) for auth in (None, ("hodei", "guess"), ("hodei", "hodei"))
    )

    # then
    assert (without.status_code, wrong.status_code, right.status_code) == (401, 401, 200)


def test_every_target_of_prometheus_is_up_and_its_rules_are_read(composed: ComposedPlatform) -> None:
    def asked(what: str) -> dict[str, Any]:
        return httpx.get(f"{composed.url(9090)}/api/v1/{what}", timeout=10).raise_for_status().json()["data"]

    def targets() -> list[tuple[str, str, str]]:
        found = asked("targets")["activeTargets"]
        return sorted((one["labels"]["job"], one["health"], one["lastError"]) for one in found)

    # then
    jobs = ["flower", "hodei", "hodei", "hodei", "hodei-beat", "hodei-controller", "prometheus"]
    until(lambda: all(health == "up" for _, health, _ in targets()), within_s=90, what="every target up")
    assert targets() == [(job, "up", "") for job in jobs]
    rules = [rule for group in asked("rules")["groups"] for rule in group["rules"]]
    assert rules and {rule["health"] for rule in rules} <= {"ok", "unknown"}


def test_the_end_to_end_procedure_is_green_on_it(composed: ComposedPlatform, tmp_path: Path) -> None:
    # when
    done = subprocess.run(
        [sys.executable, "-m", "e2e", "all", "--log-files", "elsewhere", "--report", str(tmp_path)],
        env=composed.operators_env | {"PYTHONPATH": str(CHECKOUT / "tests")},
        capture_output=True,
        text=True,
        timeout=E2E_S,
        cwd=CHECKOUT,
        check=False,
    )

    # then
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["verdict"] == "PASSED." and document["took_s"] < E2E_S
    assert {"Jobs", "Validation", "Batch"} <= {check["phase"] for check in document["checks"]}


def test_jobs_go_on_when_all_of_the_platform_is_restarted(composed: ComposedPlatform) -> None:
    # given
    with composed.client() as client:
        job = client.create_job({"name": "long", "provider": "docker", "command": "echo a; sleep 25; echo b"})
        until(lambda: client.job(job.id).status == "running", within_s=30, what="the job's start")

    # when
    composed.compose("restart", "--timeout", "10", "postgres", "redis", *HODEI)
    with composed.client() as client:
        ended = client.wait(job.id, patience_s=90)
        said = client.log_text(job.id)

    # then
    assert (ended.status, ended.attempts, said) == ("succeeded", 1, "a\nb\n")
    until(lambda: composed.workers() == [], within_s=30, what="the container's end")
