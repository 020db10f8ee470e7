from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from hodei.services.submit import NewJob

PIPELINE = "0196a3c4-0000-7000-8000-0000000000aa"


@pytest.fixture
def submit(client, calls, job):
    """Posts a job; answers the response and what the use case was given."""
    calls.answer("submit.submit_job", job)
    orchestrator = client()

    def post(**document: Any) -> tuple[Any, NewJob | None]:
        response = orchestrator.post("/api/v1/jobs", json=document)
        arguments, _ = calls.seen.get("submit_job", ((None,), {}))
        return response, arguments[0]

    return post


def test_a_job_is_stored_and_its_address_is_told(submit, job):
    response, _ = submit(name="hello", command="echo hello")

    assert response.status_code == 201
    assert response.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert response.json["id"] == str(job["id"])
    assert response.json["created_at"] == "2026-03-01T12:00:00.123456Z"


def test_everything_of_a_job_reaches_the_use_case(submit):
    _, new = submit(
        name="n",
        command="python",
        args="-c 'print(1, 2)'",
        image="python:3.12",
        env={"A": "b=c"},
        secret_env={"TOKEN": "abcd"},
        provider="docker",
        cpu=0.5,
        memory="512m",
        timeout_s=30,
        grace_s=1,
        retries=2,
        retry_on=[75],
        priority=5,
        labels={"team": "data"},
        pipeline_id=PIPELINE,
        timeouts={"queue_s": 5, "idle_s": 7},
    )

    assert new.name == "n"
    assert (new.priority, new.labels, new.pipeline_id) == (5, {"team": "data"}, UUID(PIPELINE))
    assert new.secrets == {"TOKEN": "abcd"}
    spec = new.spec
    assert (spec.command, spec.args, spec.image) == ("python", ("-c", "print(1, 2)"), "python:3.12")
    assert (spec.env, spec.secret_names) == ({"A": "b=c"}, ("TOKEN",))
    assert (spec.cpu, spec.memory_bytes, spec.timeout_s, spec.grace_s) == (0.5, 512 * 1024**2, 30, 1)
    assert (spec.retries, spec.retry_on, spec.provider) == (2, (75,), "docker")
    assert (spec.timeouts.queue_s, spec.timeouts.idle_s, spec.timeouts.start_s) == (5, 7, 60)


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        ("512m", 2**29),
        ("1Gi", 2**30),
        ("1.5G", 3 * 2**29),
        ("64MB", 2**26),
        ("8388608", 2**23),
        ("6m", 6 * 2**20),
        (2**23, 2**23),
    ],
)
def test_memory_is_read_as_docker_reads_it(submit, memory, size):
    _, new = submit(command="true", memory=memory)

    assert new.spec.memory_bytes == size


def test_a_command_without_arguments_stays_a_shell_line(submit):
    _, new = submit(command="for i in 1 2; do echo $i; done && echo 'done'")

    assert new.spec.args is None
    assert new.spec.command == "for i in 1 2; do echo $i; done && echo 'done'"


def test_arguments_that_are_empty_mean_direct_execution_without_any(submit):
    _, new = submit(command="true", args="")

    assert new.spec.args == ()


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"command": "/usr/bin/env python"}, "env"),
        ({"command": "$(x)"}, "x"),
        ({"script": "#!/bin/sh\nls"}, "job"),
    ],
)
def test_a_job_without_a_name_gets_one_from_its_command(submit, document, name):
    _, new = submit(**document)

    assert new.name == name


def test_a_definition_without_a_command_needs_a_pipeline(submit):
    accepted, new = submit(pipeline_id=PIPELINE)
    refused, _ = submit(name="nothing")

    assert accepted.status_code == 201
    assert new.spec.is_held
    assert (refused.status_code, refused.json["field"]) == (422, "command")


def test_what_a_job_shows_of_itself_can_be_sent_again(submit):
    response, _ = submit(
        command="true", script=None, args=None, image=None, cpu=None, memory=None, timeout_s=None
    )

    assert response.status_code == 201


REFUSED = [
    ({"command": "true", "script": "true"}, "script"),
    ({"command": "  "}, "command"),
    ({"command": "a\0b"}, "command"),
    ({"command": "x" * 131_072}, "command"),
    ({"script": ""}, "script"),
    ({"script": "a\0b"}, "script"),
    ({"command": "ls", "args": "it's"}, "args"),
    ({"command": "ls", "args": ["a\0b"]}, "args.0"),
    ({"command": "ls", "args": 3}, "args"),
    ({"pipeline_id": PIPELINE, "args": "x"}, "args"),
    ({"command": "ls", "env": {"1A": "x"}}, "env"),
    ({"command": "ls", "env": {"A B": "x"}}, "env"),
    ({"command": "ls", "env": {"A\n": "x"}}, "env"),
    ({"command": "ls", "env": {"HODEI_TOKEN": "x"}}, "env"),
    ({"command": "ls", "env": {"A": "a\0b"}}, "env"),
    ({"command": "ls", "env": {"A": 1}}, "env.A"),
    ({"command": "ls", "secret_env": {"A": "abc"}}, "secret_env"),
    ({"command": "ls", "env": {"A": "x"}, "secret_env": {"A": "abcd"}}, "secret_env"),
    ({"command": "ls", "provider": "no spaces"}, "provider"),
    ({"command": "ls", "cpu": 0}, "cpu"),
    ({"command": "ls", "cpu": True}, "cpu"),
    ({"command": "ls", "memory": "4"}, "memory"),
    ({"command": "ls", "memory": "lots"}, "memory"),
    ({"command": "ls", "memory": 1024}, "memory"),
    ({"command": "ls", "memory": "5.9m"}, "memory"),
    ({"command": "ls", "memory": -1}, "memory"),
    ({"command": "ls", "timeout_s": 0}, "timeout_s"),
    ({"command": "ls", "grace_s": -1}, "grace_s"),
    ({"command": "ls", "retries": 101}, "retries"),
    ({"command": "ls", "retries": "3"}, "retries"),
    ({"command": "ls", "retry_on": [256]}, "retry_on.0"),
    ({"command": "ls", "priority": 10}, "priority"),
    ({"command": "ls", "labels": {str(n): "" for n in range(65)}}, "labels"),
    ({"command": "ls", "labels": {"k" * 64: ""}}, "labels"),
    ({"command": "ls", "labels": {"k": "v" * 257}}, "labels"),
    ({"command": "ls", "labels": {"a=b": ""}}, "labels"),
    ({"command": "ls", "timeouts": {"queue_s": 0}}, "timeouts.queue_s"),
    ({"command": "ls", "timeouts": {"queue": 1}}, "timeouts.queue"),
    ({"command": "ls", "pipeline_id": "mine"}, "pipeline_id"),
    ({"command": "ls", "image": "--privileged"}, "image"),
    ({"command": "ls", "image": "a b"}, "image"),
    ({"command": "ls", "name": ""}, "name"),
    ({"command": "ls", "name": "x" * 256}, "name"),
    ({"command": "ls", "name": "a\nb"}, "name"),
    ({"comand": "ls"}, "comand"),
]


@pytest.mark.parametrize(("document", "field"), REFUSED)
def test_what_no_job_can_be_is_refused_with_one_sentence_and_the_field(submit, document, field):
    response, _ = submit(**document)

    assert response.status_code == 422
    assert response.mimetype == "application/problem+json"
    assert response.json["code"] == "invalid_input"
    assert response.json["field"] == field
    assert response.json["detail"].endswith((".", "?"))
    assert "\n" not in response.json["detail"]
    assert "pydantic" not in response.text


def test_too_many_entries_are_counted_in_plain_words(submit):
    response, _ = submit(command="ls", args=["x"] * 10_001)

    assert response.json["field"] == "args"
    assert response.json["detail"] == "args must have at most 10000 entries."


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("a b", "be visible ASCII characters, without blanks"),
        ("é", "be visible ASCII characters, without blanks"),
        ("", "have at least 1 character"),
        ("k" * 256, "have at most 255 characters"),
    ],
)
def test_a_key_that_no_request_can_have_is_refused_in_words(client, key, words):
    response = client().post("/api/v1/jobs", json={"command": "ls"}, headers={"Idempotency-Key": key})

    assert (response.status_code, response.json["field"]) == (422, "Idempotency-Key")
    assert response.json["detail"] == f"Idempotency-Key should {words}."


def test_a_provider_that_no_place_can_be_called_is_refused_in_words(submit):
    response, _ = submit(command="ls", provider="my docker")

    words = "should be auto, docker, kubernetes, process, or another provider's name or id."
    assert response.json["detail"] == f"provider {words}"


def test_a_quote_that_is_not_closed_is_refused(submit):
    response, _ = submit(command="ls", args="it's")

    assert (response.status_code, response.json["field"]) == (422, "args")


def test_a_misspelt_field_is_answered_with_the_one_that_was_meant(submit):
    response, _ = submit(comand="ls")

    assert response.json["detail"] == "comand is not known here: did you mean command?"


def test_a_refused_secret_is_not_repeated(submit):
    response, _ = submit(command="ls", secret_env={"TOKEN": "s3c"})

    assert "s3c" not in response.text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(client, number):
    body = f'{{"command": "ls", "timeout_s": {number}}}'

    response = client().post("/api/v1/jobs", data=body, content_type="application/json")

    assert response.status_code in (400, 422)


@pytest.mark.parametrize(
    "body", ["", "{", "nonsense", '{"command": "\\ud800"}', b'{"command": "\xff"}', "[" * 5000]
)
def test_a_body_that_is_not_json_is_answered_in_a_sentence(client, body):
    response = client().post("/api/v1/jobs", data=body, content_type="application/json")

    assert response.status_code == 400
    assert response.json["code"] == "malformed_body"
    assert response.json["detail"].startswith("The body is not valid JSON")


@pytest.mark.parametrize("body", ["[]", "3", "null", '"{}"'])
def test_a_body_that_is_no_object_is_refused(client, body):
    response = client().post("/api/v1/jobs", data=body, content_type="application/json")

    assert (response.status_code, response.json["detail"]) == (422, "The body must be a JSON object.")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
def test_a_body_of_another_content_type_is_refused(client, kind):
    response = client().post("/api/v1/jobs", data='{"command": "ls"}', content_type=kind)

    assert (response.status_code, response.json["code"]) == (415, "unsupported_media_type")


def test_a_body_above_one_mebibyte_is_refused(client):
    response = client().post("/api/v1/jobs", json={"script": "x" * 1024**2})

    assert (response.status_code, response.json["code"]) == (413, "payload_too_large")


def test_a_batch_is_given_on_whole(client, calls, job):
    calls.answer("submit.submit_jobs", lambda new, **_: [job for _ in new])

    response = client().post("/api/v1/jobs/batch", json={"jobs": [{"command": "a"}, {"command": "b"}]})

    assert response.status_code == 201
    assert len(response.json) == 2
    assert [new.spec.command for new in calls.seen["submit_jobs"][0][0]] == ["a", "b"]


def test_a_batch_names_which_of_its_jobs_is_wrong(client):
    response = client().post(
        "/api/v1/jobs/batch", json={"jobs": [{"command": "a"}, {"command": "a", "cpu": -1}]}
    )

    assert (response.status_code, response.json["field"]) == (422, "jobs.1.cpu")


@pytest.mark.parametrize("jobs", [[], [{"command": "a"}] * 1001])
def test_a_batch_is_neither_empty_nor_endless(client, jobs):
    response = client().post("/api/v1/jobs/batch", json={"jobs": jobs})

    assert (response.status_code, response.json["field"]) == (422, "jobs")
