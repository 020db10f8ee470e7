"""The recipes that run jobs: each does what its name says, on the provider that it names."""

from __future__ import annotations

import re

import pytest
from support.clusters import Cluster
from support.containers import docker
from support.k8s_stand_in.cluster import WORKERS
from support.recipes import Person
from support.waiting import until

from hodei.client.client import HodeiClient
from hodei.client.shapes import Job

pytestmark = pytest.mark.docker

ID = re.compile(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.MULTILINE)
LAST_LINES = {
    "hello_world": "attempt 1 on ",
    "data": "kept 49500 of 50000",
    "cpu": "17984 primes by division",
    "memory": "grew by ",
    "ml": "accuracy ",
    "build": "greet.pyz: ",
}


def jobs_in(person: Person, shown: str) -> list[Job]:
    """The jobs whose ids a recipe has shown."""
    with HodeiClient(person.url) as client:
        return [client.job(job_id) for job_id in ID.findall(shown)]


def check_examples(person: Person, shown: str, names: list[str], provider: str) -> None:
    """Each example was a job of its own, there, and ended with the line that it ends with."""
    jobs = jobs_in(person, shown)
    assert [(job.name, job.status, job.provider_type) for job in jobs] == [
        (name, "succeeded", provider) for name in names
    ]
    with HodeiClient(person.url) as client:
        for job in jobs:
            assert client.log_text(job.id).splitlines()[-1].startswith(LAST_LINES[job.name])
    for name in names:
        assert LAST_LINES[name] in shown, "its log is followed"


def pods_of(cluster: Cluster) -> set[str]:
    return {pod.metadata.labels["hodei.io/job-id"] for pod in cluster.pods("hodei-worker")}


def test_jobs_on_docker(person: Person, cluster: Cluster) -> None:
    # when
    recipes = ["hello", "data", "cpu", "memory", "ml", "build", "all"]
    done = person.just(*(f"job-docker-{name}" for name in recipes))  # the last has run its parts by then

    # then
    assert done.returncode == 0, done.stdout
    check_examples(person, done.stdout, list(LAST_LINES), "docker")
    memory = next(job for job in jobs_in(person, done.stdout) if job.name == "memory")
    assert memory.document["memory"] == 256 * 2**20
    assert not pods_of(cluster) & set(ID.findall(done.stdout)), "a Docker job makes no pod"


def test_jobs_on_kubernetes(person: Person) -> None:
    # when
    done = person.just("job-k8s-hello", "job-k8s-data", "job-k8s-cpu", "job-k8s-all")

    # then
    assert done.returncode == 0, done.stdout
    check_examples(person, done.stdout, ["hello_world", "data", "cpu"], "kubernetes")


def test_pods_are_shown_while_they_live_and_a_job_is_cancelled_with_its_pod(
    person: Person, cluster: Cluster
) -> None:
    # given
    line = "echo up; sleep 600"
    job_id = person.hodei("job", "run", "--provider", "kubernetes", "--command", line).stdout.strip()
    with HodeiClient(person.url) as client:
        until(lambda: client.log_text(job_id) == "up\n", within_s=60, what="the job's start")
        worker_id = client.job(job_id).worker_id

    # when
    shown = person.just("job-k8s-pods").stdout
    cancelled = person.just("job-cancel", job_id)

    # then
    assert re.search(rf"^hodei-worker-{worker_id} +Running +{job_id} ", shown, re.MULTILINE), shown
    assert f"hodei-worker-{worker_id}" not in docker("ps", "--all", "--format", "{{.Names}}")
    assert cancelled.returncode == 0 and "Status: CANCELLED" in cancelled.stdout, cancelled.stdout
    until(lambda: job_id not in pods_of(cluster), what=f"the end of its pod in {WORKERS}")


def test_examples_on_whatever_provider_there_is(person: Person) -> None:
    # when
    examples = person.just("job-examples-all")
    others = person.just("job-test", "job-hello-world")

    # then
    assert (examples.returncode, others.returncode) == (0, 0), examples.stdout + others.stdout
    check_examples(person, examples.stdout, list(LAST_LINES), "docker")
    assert "it works on " in others.stdout and "Hello from job " in others.stdout
    assert [job.status for job in jobs_in(person, others.stdout)] == ["succeeded"] * 2


def test_a_job_that_fails_shows_how_and_can_be_looked_at(person: Person) -> None:
    # when
    done = person.just("job-error")
    [job_id] = ID.findall(done.stdout)
    details = person.just("job-details").stdout
    listed = person.just("job-list", "--status", "failed", "--limit", "1").stdout

    # then
    assert done.returncode == 0, "it fails as it should"
    for words in ("orders.csv: line 17 has no price", "Status: FAILED (Status Code: 5)", "ERR_1007"):
        assert words in done.stdout
    assert f"ID: {job_id}" in details and "Exit code: 3" in details, "the newest without an id"
    assert "JobStatusChanged" in details and person.just("job-details", job_id).stdout == details
    assert [line.split()[0] for line in listed.splitlines()] == ["ID", job_id]


def test_many_jobs_at_once(person: Person) -> None:
    # when
    together = person.just("job-concurrent-test", "3", "docker")
    many = person.just("job-stress-test", "12", "process")

    # then
    assert (together.returncode, many.returncode) == (0, 0), together.stdout + many.stdout
    assert "ends: 3 succeeded" in together.stdout and "workers: 3;" in together.stdout
    assert "ends: 12 succeeded" in many.stdout
    with HodeiClient(person.url) as client:
        newest = list(client.jobs(limit=15))
    kinds = [(job.provider_type, job.name.partition("-")[0]) for job in newest]
    assert sorted(kinds) == [("docker", "concurrent")] * 3 + [("process", "stress")] * 12


def test_providers_are_compared_and_verified(person: Person) -> None:
    # when
    compared = person.just("job-provider-comparison", "docs/examples/jobs/hello_world.sh")
    verified = person.just("verify-providers")
    looked = person.just("check-provider-health")
    one = person.just("check-provider-health", "docker")

    # then
    for done in (compared, verified):
        assert done.returncode == 0, done.stdout
        ran = re.findall(
            r"^(\w+) +\1 +succeeded +\d+\.\d\d s +\d+\.\d\d s attempt 1", done.stdout, re.MULTILINE
        )
        assert sorted(ran) == ["docker", "kubernetes", "process"], done.stdout
    assert looked.returncode == 0, looked.stdout
    assert [line.partition(".")[0] for line in looked.stdout.splitlines() if line[0] != " "] == [
        "docker: ok",
        "kubernetes: ok",
        "process: ok",
    ]
    assert one.stdout.startswith("docker: ok. ") and "kubernetes" not in one.stdout


def test_a_provider_that_is_off_fails_the_look_at_it(person: Person) -> None:
    # given
    person.hodei("provider", "disable", "process", "--maintenance", "--reason", "new disks")
    waiting = person.hodei("job", "run", "--provider", "process", "--name", "waits", "--command", "true")

    # when
    compared = person.just("verify-providers")
    queue = person.just("debug-queue")
    person.hodei("provider", "enable", "process")

    # then
    assert re.search(r"process +process +MAINTENANCE .*new disks", compared.stdout)
    assert re.search(rf"1 \| {waiting.stdout.strip()} \| waits .* process", queue.stdout), queue.stdout
    assert person.hodei("job", "wait", waiting.stdout.strip()).returncode == 0
