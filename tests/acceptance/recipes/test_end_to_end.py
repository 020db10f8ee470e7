"""The end-to-end procedure: green on a sound system, and each fault that is put in is found by the check that is there for it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
from e2e import activity
from e2e.ledger import Off
from e2e.system import System
from support.containers import docker
from support.platform import SERVICES, RunningPlatform
from support.process_tree import with_text
from support.recipes import Person
from support.servers import Servers, fresh_database
from support.waiting import until

from hodei.client.client import HodeiClient

pytestmark = pytest.mark.docker

PHASES = ["Infrastructure", "Build", "Services", "Providers", "Jobs", "Validation", "Kubernetes", "Batch"]
LIMIT_S = 400


@pytest.fixture(scope="module")
def system(person: Person) -> System:
    return System.at(person.url, None, person.env)


@pytest.fixture(scope="module")
def reports(person: Person) -> Path:
    return person.folder / "e2e"


@pytest.fixture(scope="module")
def first(person: Person, reports: Path) -> subprocess.CompletedProcess[str]:
    """All eight phases, once."""
    return person.just("e2e", "all", "--report", str(reports), timeout_s=LIMIT_S)


def last_report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def failed(folder: Path) -> list[str]:
    return [check["name"] for check in last_report(folder)["checks"] if not check["ok"]]


def change(system: System, statement: str, *parameters: Any) -> int:
    """Somebody with psql who may do all; how many rows it was about."""
    connection = psycopg2.connect(system.database_url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.rowcount
    finally:
        connection.close()


def test_all_eight_phases_are_green_on_a_sound_system(
    person: Person, first: subprocess.CompletedProcess[str], reports: Path
) -> None:
    # then
    assert first.returncode == 0, first.stdout
    document = last_report(reports)
    assert document["verdict"] == "PASSED." and document["took_s"] < LIMIT_S
    assert list(dict.fromkeys(check["phase"] for check in document["checks"])) == PHASES
    for check in document["checks"]:
        assert check["evidence"], check["name"]
        assert check["name"] in first.stdout and check["evidence"].splitlines()[0] in first.stdout
    names = [check["name"] for check in document["checks"]]
    assert "test-args wrote what it had to" in names
    assert "k8s-echo: its worker's resource is the pod of its name" in names

    # when
    again = person.just("e2e", "report", "--report", str(reports))

    # then
    assert again.returncode == 0
    assert (reports / "report.md").read_text() in again.stdout


@contextmanager
def a_container_left_over(system: System, job_id: str) -> Iterator[str]:
    [(worker_id,)] = system.sql("SELECT worker_id FROM jobs WHERE id::text = %s", job_id)
    image = system.env["HODEI_WORKER_IMAGE"]
    docker("create", "--name", f"hodei-worker-{worker_id}", "--entrypoint", "sleep", image, "60")
    try:
        yield "no container of theirs is left"
    finally:
        docker("rm", "--force", f"hodei-worker-{worker_id}")


@contextmanager
def an_event_missing(system: System, job_id: str) -> Iterator[str]:
    chosen = "correlation_id::text = %s AND event_type = 'JobAccepted'"
    change(system, f"CREATE TABLE hodei.kept AS SELECT * FROM domain_events WHERE {chosen}", job_id)
    assert change(system, f"DELETE FROM domain_events WHERE {chosen}", job_id) == 1
    try:
        yield "test-multicmd: its events are the five of a first attempt, in order"
    finally:
        change(system, "INSERT INTO domain_events SELECT * FROM hodei.kept")
        change(system, "DROP TABLE hodei.kept")


@contextmanager
def a_log_file_gone(system: System, job_id: str) -> Iterator[str]:
    [(uri,)] = system.sql("SELECT storage_uri FROM job_log_files WHERE job_id::text = %s", job_id)
    path = Path(urlsplit(uri).path)
    path.rename(path.with_suffix(".gone"))
    try:
        yield "test-long: its log was kept before its end showed"
    finally:
        path.with_suffix(".gone").rename(path)


@contextmanager
def a_wrong_exit(system: System, job_id: str) -> Iterator[str]:
    assert change(system, "UPDATE jobs SET exit_code = 7 WHERE id::text = %s", job_id) == 1
    try:
        yield "test-env: its row says how it ended"
    finally:
        change(system, "UPDATE jobs SET exit_code = 0 WHERE id::text = %s", job_id)


@contextmanager
def a_step_that_did_nothing(system: System, job_id: str) -> Iterator[str]:
    statement = (
        "UPDATE saga_steps SET state = %s WHERE step_name = 'CompleteJob' AND saga_id IN"
        " (SELECT id FROM sagas WHERE correlation_id::text = %s)"
    )
    assert change(system, statement, "PENDING", job_id) == 1
    try:
        yield "test-args: its sagas PROVISIONING and EXECUTION are COMPLETED, with every step and its audit"
    finally:
        change(system, statement, "COMPLETED", job_id)


@contextmanager
def a_view_too_many(system: System, job_id: str) -> Iterator[str]:
    change(system, "CREATE VIEW public.busy AS SELECT id FROM jobs")
    try:
        yield "public has the nine tables, and nothing besides"
    finally:
        change(system, "DROP VIEW public.busy")


FAULTS: dict[Callable[..., Any], str] = {
    a_container_left_over: "test-echo",
    an_event_missing: "test-multicmd",
    a_log_file_gone: "test-long",
    a_wrong_exit: "test-env",
    a_step_that_did_nothing: "test-args",
    a_view_too_many: "test-echo",
}


def test_each_fault_is_found_by_the_check_that_is_there_for_it(
    person: Person, system: System, first: subprocess.CompletedProcess[str], reports: Path
) -> None:
    # given
    ids = {job["name"]: job["id"] for job in last_report(reports)["jobs"]}
    validate = ["e2e", "validate", "--report", str(reports)]

    # when
    with ExitStack() as faults:
        expected = [faults.enter_context(fault(system, ids[name])) for fault, name in FAULTS.items()]
        done = person.just(*validate, timeout_s=LIMIT_S)

        # then
        assert done.returncode != 0
        assert set(failed(reports)) == set(expected), done.stdout
        assert last_report(reports)["verdict"] == "FAILED."
        assert person.just("e2e", "report", "--report", str(reports)).returncode != 0

    # when
    mended = person.just(*validate, timeout_s=LIMIT_S)

    # then
    assert mended.returncode == 0, mended.stdout
    assert {job["id"] for job in last_report(reports)["jobs"]} == set(ids.values()), "the same jobs"


def test_a_service_that_is_down_is_named_and_nothing_is_proved_on_what_is_left(
    person: Person, servers: Servers, tmp_path: Path
) -> None:
    # given
    names = [*SERVICES, "controller", "beat"]
    with (
        fresh_database(servers) as url,
        RunningPlatform(tmp_path, url, servers.redis_url, names=names) as platform,
    ):
        platform.kill("scheduler")
        env = {"HODEI_URL": platform.url, "HODEI_DATABASE_URL": url}

        # when
        done = person.just("e2e", "jobs", "--report", str(tmp_path / "e2e"), env=env)

    # then
    assert done.returncode != 0
    assert failed(tmp_path / "e2e") == ["scheduler is healthy"], done.stdout
    assert "5. Jobs" not in done.stdout


def test_a_job_without_a_sign_of_life_is_said_to_wait_for_something(system: System, person: Person) -> None:
    # given
    line = "echo up; sleep 600"
    job_id = person.hodei("job", "run", "--provider", "process", "--command", line).stdout.strip()
    with HodeiClient(person.url) as client:
        until(lambda: client.log_text(job_id) == "up\n", within_s=60, what="the job's first line")
        worker_id = client.job(job_id).worker_id
        assert worker_id is not None
        agents = [int(one.partition(":")[0]) for one in with_text(worker_id) if "hodei_agent" in one]
        assert agents
        for pid in agents:
            os.kill(pid, signal.SIGSTOP)

        # when
        try:
            with pytest.raises(Off) as said:
                activity.accompany(system, [job_id], silence_s=7)
        finally:
            for pid in agents:
                os.kill(pid, signal.SIGCONT)
            client.cancel(job_id)
            client.wait(job_id)

    # then
    words = str(said.value)
    assert "no line, event, heartbeat or change of state for 7 s" in words
    assert "It waited for: " in words and "state RUNNING" in words


def test_a_job_that_ends_with_another_code_is_said_to(system: System, person: Person) -> None:
    # given
    done = person.hodei("job", "run", "--provider", "process", "--command", "exit 3")

    # then
    with pytest.raises(Off, match=r"ended with 3: .*FAILED \(Status Code: 5\)"):
        activity.accompany(system, [done.stdout.strip()])


def test_a_worker_image_that_is_absent_is_built(person: Person, reports: Path) -> None:
    # given
    image = "hodei-recipes-absent:test"
    env = {"HODEI_WORKER_IMAGE": image, "BUILD_NETWORK": "host"}

    # when
    done = person.just("e2e", "build", "--report", str(person.folder / "build"), env=env, timeout_s=LIMIT_S)

    # then
    try:
        assert done.returncode == 0, done.stdout
        assert "was built: sha256:" in done.stdout
        assert docker("image", "inspect", "--format", "{{.Id}}", image)
    finally:
        subprocess.run(["docker", "rmi", image], capture_output=True, check=False)


def test_what_is_missing_is_said_before_anything_is_started(newcomer: Person) -> None:
    # given
    reports = ["--report", str(newcomer.folder / "e2e")]
    port = int(newcomer.env["HODEI_SCHEDULER_PORT"])
    with socket.create_server(("127.0.0.1", port)):
        # when
        taken = newcomer.just("e2e", "all", *reports)
    away = newcomer.just("e2e", "all", *reports, env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})

    # then
    for done, sentence in (
        (taken, rf"Port {port} is taken by .*choose another port with HODEI_SCHEDULER_PORT"),
        (away, "Docker does not answer .*Start it"),
    ):
        assert done.returncode != 0
        assert re.search(sentence, done.stdout), done.stdout
        assert "a system of its own starts" not in done.stdout and "Traceback" not in done.stdout
    assert newcomer.just("e2e", "report", "--report", str(newcomer.folder / "none")).returncode != 0


def test_a_system_of_its_own_goes_with_it_also_when_it_is_interrupted(newcomer: Person) -> None:
    # given
    newcomer.env["HODEI_DOCKER_ENABLED"] = "1"
    reports = newcomer.folder / "e2e"
    with newcomer.begun("e2e", "jobs", "--own", "--report", str(reports)) as begun:
        begun.until("test-multicmd is accepted", within_s=180)
        [folder] = re.findall(r"data in (/tmp/hodei-e2e-\S+)", begun.shown)

        # when
        begun.stop()

    # then
    assert begun.process.returncode != 0
    until(lambda: "The report:" in begun.shown, what="its last words")
    assert "SIGINT: clearing up" in begun.shown and "which had not ended" in begun.shown, begun.shown
    assert not Path(folder).exists() and with_text(folder) == []
    document = last_report(reports)
    assert document["verdict"] == "INTERRUPTED."
    label = f"label=hodei.deployment={document['deployment']}"
    assert docker("ps", "--all", "--quiet", "--filter", label) == ""
