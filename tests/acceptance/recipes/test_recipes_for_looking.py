"""The recipes that show what is going on: those that go on are started, seen to show it, and stopped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.recipes import Person
from support.waiting import until

from hodei.client.client import HodeiClient

pytestmark = pytest.mark.docker

SLOW = "echo first line; sleep 600"


@pytest.fixture
def slow_job(person: Person) -> Iterator[tuple[str, str]]:
    """A job that runs in a container, and its worker; cancelled afterwards."""
    done = person.hodei("job", "run", "--provider", "docker", "--name", "slow", "--command", SLOW)
    job_id = done.stdout.strip()
    with HodeiClient(person.url) as client:
        until(lambda: client.log_text(job_id) == "first line\n", within_s=60, what="the job's first line")
        worker_id = client.job(job_id).worker_id
        assert worker_id is not None
        yield job_id, worker_id
        client.cancel(job_id)
        client.wait(job_id)


def test_all_is_well(person: Person) -> None:
    # when
    done = person.just("status")

    # then
    assert done.returncode == 0 and done.stdout.endswith("All is well.\n"), done.stdout
    assert f"orchestrator: ok at {person.url}" in done.stdout


def test_what_goes_on_shows_a_running_job_and_stops_when_it_is_told_to(
    person: Person, slow_job: tuple[str, str]
) -> None:
    # given
    job_id, worker_id = slow_job

    for words, shown in {
        ("watch-jobs",): (job_id, "RUNNING"),
        ("watch-workers",): (worker_id, "BUSY"),
        ("logs",): ("first line\n",),
        ("logs", job_id): ("first line\n",),
        ("logs-worker",): ("first line\n",),
        ("logs-worker", worker_id): ("first line\n",),
        ("logs-server", "5000"): (f"Ready: {person.url}", "In another terminal:"),
    }.items():
        # when
        with person.begun(*words) as begun:
            # then
            begun.until(*shown)
        assert begun.process.returncode != 0, "it went on until it was stopped"
    assert person.hodei("job", "get", job_id).stdout.count("RUNNING") == 1, "looking at it did it no harm"


def test_a_watch_shows_what_changes(person: Person) -> None:
    # given
    with person.begun("watch-jobs") as begun:
        begun.until("CREATED")

        # when
        job_id = person.hodei(
            "job", "run", "--provider", "process", "--command", "true", "--wait"
        ).stdout.strip()

        # then
        begun.until(job_id, "SUCCEEDED")


def test_questions_to_the_database_have_answers(person: Person, slow_job: tuple[str, str]) -> None:
    # given
    job_id, worker_id = slow_job

    # when
    answers = {
        question: person.just(f"debug-{question}", *ids)
        for question, ids in {
            "jobs": [],
            "workers": [],
            "queue": [],
            "job": [job_id],
            "job-timeline": [job_id],
        }.items()
    }

    # then
    assert {question: done.returncode for question, done in answers.items()} == dict.fromkeys(answers, 0), (
        answers
    )
    shown = {question: done.stdout for question, done in answers.items()}
    assert job_id in shown["jobs"] and "RUNNING" in shown["jobs"]
    assert worker_id in shown["workers"] and "BUSY" in shown["workers"]
    assert "ExecuteJob" in shown["queue"], "the saga that waits for the job's result"
    for words in (job_id, worker_id, "PROVISIONING", "CompleteJob"):
        assert words in shown["job"]
    order = ["JobCreated", "PROVISIONING SagaStarted", "JobAssigned", "JobAccepted", "JobStatusChanged"]
    places = [shown["job-timeline"].index(word) for word in order]
    assert places == sorted(places)
    assert person.just("debug-job-timeline").stdout == shown["job-timeline"], "the newest without an id"


def test_without_a_platform_a_sentence_says_what_to_do(newcomer: Person) -> None:
    # given
    env = {"HODEI_URL": newcomer.url}
    words = ("job-test", "status", "watch-jobs", "job-stress-test", "debug-jobs", "logs-server")

    # when
    asked = [newcomer.just(word, env=env) for word in words]

    # then
    for done in asked:
        assert done.returncode != 0
        assert "hodei dev" in done.stdout or "just dev-server" in done.stdout, done.stdout
        assert "Traceback" not in done.stdout
