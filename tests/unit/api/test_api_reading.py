from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from hodei.errors import DatabaseUnavailable, NotFound
from hodei.services.logs import LogPage
from hodei.services.paging import Page

JOB = "/api/v1/jobs/0196a3c4-0000-7000-8000-000000000001"
ID = UUID("0196a3c4-0000-7000-8000-000000000001")


def test_a_list_names_its_next_page(client, calls, job):
    calls.answer("jobs.list_jobs", Page(items=[job], next_cursor="abc"))

    response = client().get("/api/v1/jobs?limit=1&status=pending&status=running&label=a=b=c&cursor=old")

    assert [item["id"] for item in response.json] == [str(job["id"])]
    assert response.headers["Link"] == (
        '</api/v1/jobs?limit=1&status=pending&status=running&label=a%3Db%3Dc&cursor=abc>; rel="next"'
    )
    _, named = calls.seen["list_jobs"]
    assert named["status"] == ["pending", "running"]
    assert named["label"] == {"a": "b=c"}
    assert (named["limit"], named["cursor"]) == (1, "old")


def test_the_last_page_has_no_link(client, calls):
    calls.answer("jobs.list_jobs", Page(items=[]))

    response = client().get("/api/v1/jobs")

    assert response.json == []
    assert "Link" not in response.headers


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=1_0", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=RUNNING", "status.0"),
        ("label=alone", "label"),
        ("name=%00", "name"),
        ("pipeline_id=x", "pipeline_id"),
        ("stat=pending", "stat"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(client, query, field):
    response = client().get(f"/api/v1/jobs?{query}")

    assert (response.status_code, response.json["field"]) == (422, field)


def test_a_job_can_be_waited_for(client, calls, job):
    calls.answer("jobs.wait_for_job", job)

    response = client().get(f"{JOB}?wait=30")

    assert response.status_code == 200
    assert calls.seen["wait_for_job"][0] == (ID, 30.0)


@pytest.mark.parametrize("wait", ["-1", "301", "nan", "inf", "soon"])
def test_nobody_waits_for_ever(client, wait):
    assert client().get(f"{JOB}?wait={wait}").status_code == 422


@pytest.mark.parametrize("name", ["nonsense", "0196a3c40000700080000000000000001", "%00"])
def test_an_id_that_is_none_names_nothing(client, name):
    response = client().get(f"/api/v1/jobs/{name}")

    assert (response.status_code, response.json["code"]) == (404, "not_found")


def test_an_unknown_id_is_answered_with_the_use_cases_sentence(client, calls):
    calls.answer("jobs.get_job", NotFound("There is no job X. List them with: hodei job list"))

    response = client().get(JOB)

    assert response.status_code == 404
    assert response.mimetype == "application/problem+json"
    assert response.json == {
        "type": "about:blank",
        "title": "Not found",
        "status": 404,
        "code": "not_found",
        "detail": "There is no job X. List them with: hodei job list",
    }


def test_a_database_that_is_away_is_said(client, calls):
    calls.answer("jobs.get_job", DatabaseUnavailable())

    response = client().get(JOB)

    assert (response.status_code, response.json["code"]) == (503, "database_unavailable")
    assert response.headers["Retry-After"] == "1"


def test_a_bug_is_answered_without_its_insides_and_with_what_to_look_for(client, calls):
    calls.answer("jobs.get_job", RuntimeError("postgresql://user:password@host"))

    response = client().get(JOB, headers={"X-Request-Id": "abc-1"})

    assert response.status_code == 500
    assert "password" not in response.text
    assert "abc-1" in response.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("PUT", "/api/v1/jobs", 405), ("GET", "/api/v1//jobs", 404)],
)
def test_what_is_not_there_is_a_problem_too(client, method, path, status):
    response = client().open(path, method=method)

    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    if status == 405:
        assert "POST" in response.headers["Allow"]


def test_log_entries_say_when_there_will_be_no_more(client, calls):
    entry = {"seq": 4, "attempt": 2, "stream": "stdout", "text": "hello"}
    calls.answer("logs.read_entries", LogPage(entries=[entry], ended=True, attempt=2, execution_id=ID))

    response = client().get(f"{JOB}/logs?attempt=2&after=3&limit=10&wait_s=5")

    assert response.json == [entry]
    assert response.headers["Hodei-Log-End"] == "true"
    assert response.headers["Hodei-Log-Attempt"] == "2"
    assert calls.seen["read_entries"][1] == {
        "job_id": ID,
        "execution_id": None,
        "attempt": 2,
        "after": 3,
        "limit": 10,
        "wait_s": 5.0,
    }


def test_a_log_that_goes_on_does_not_say_that_it_ended(client, calls):
    calls.answer("logs.read_entries", LogPage(entries=[], ended=False, attempt=1, execution_id=ID))

    assert "Hodei-Log-End" not in client().get(f"{JOB}/logs").headers


def test_a_log_is_also_the_text_itself(client, calls):
    calls.answer("logs.read_text", lambda **_: iter([b"one\n", b"\xff\x00two"]))

    response = client().get(f"{JOB}/logs", headers={"Accept": "text/plain"})

    assert response.data == b"one\n\xff\x00two"
    assert response.content_type == "text/plain; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_text_of_an_unknown_log_is_a_problem_not_an_empty_text(client, calls):
    def nothing(**_):
        raise NotFound("There is no such job.")
        yield b""

    calls.answer("logs.read_text", nothing)

    assert client().get(f"{JOB}/logs", headers={"Accept": "text/plain"}).status_code == 404


def test_the_queue_is_the_pending_jobs(client, calls, job):
    calls.answer("jobs.list_jobs", Page(items=[job]))

    response = client("scheduler").get("/api/v1/queue")

    assert len(response.json) == 1
    assert calls.seen["list_jobs"][1]["status"] == ["pending"]


@pytest.mark.parametrize(
    ("service", "state", "status"),
    [
        ("worker-manager", "BUSY", "running"),
        ("scheduler", "BUSY", "online"),
        ("scheduler", "TERMINATED", "offline"),
    ],
)
def test_a_workers_status_is_in_the_words_of_the_service(client, calls, service, state, status):
    calls.answer("workers.list_workers", Page(items=[{"state": state, "status": "running"}]))

    assert client(service).get("/api/v1/workers?state=BUSY").json == [{"state": state, "status": status}]
    assert calls.seen["list_workers"][1]["state"] == ["BUSY"]


def test_numbers_keep_their_kind(client, calls):
    calls.answer("providers.get_provider", {"whole": Decimal(3), "broken": Decimal("0.5"), "ids": {2, 1}})

    assert client().get("/api/v1/providers/docker").json == {"whole": 3, "broken": 0.5, "ids": [1, 2]}


def test_sagas_and_events_are_filtered_by_the_use_case(client, calls):
    calls.answer("history.list_sagas", Page(items=[]))
    calls.answer("history.list_events", Page(items=[]))
    orchestrator = client()

    assert orchestrator.get(f"/api/v1/sagas?state=FAILED&type=EXECUTION&job_id={ID}").status_code == 200
    assert orchestrator.get(f"/api/v1/events?event_type=JobCreated&correlation_id={ID}").status_code == 200
    assert calls.seen["list_sagas"][1] | {"cursor": None} == {
        "state": "FAILED",
        "saga_type": "EXECUTION",
        "job_id": ID,
        "cursor": None,
        "limit": 50,
    }
    assert calls.seen["list_events"][1]["correlation_id"] == ID
