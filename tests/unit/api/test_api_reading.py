from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from hodei.errors import DatabaseUnavailable, NotFound
from hodei.services import logs
from hodei.services.paging import Page

JOB = "/api/v1/jobs/0196a3c4-0000-7000-8000-000000000001"
ID = UUID("0196a3c4-0000-7000-8000-000000000001")
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_list_names_its_next_page(client, calls, job):
    calls.answer("jobs.list_jobs", Page(items=[job], next_cursor="abc"))

    response = client().get("/api/v1/jobs?limit=1&status=pending&status=running&label=a=b=c&cursor=old")

    assert [item["id"] for item in response.json] == [str(job["id"])]
    assert response.headers["Link"] == (
        '</api/v1/jobs?limit=1&status=pending&status=running&label=a%3Db%3Dc&cursor=abc>; rel="next"'
    )
    (wanted,), named = calls.seen["list_jobs"]
    assert wanted.status == ["pending", "running"]
    assert wanted.label == {"a": "b=c"}
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
        ("status=RUNNING", "status"),
        ("label=alone", "label"),
        ("name=%00", "name"),
        ("pipeline_id=x", "pipeline_id"),
        ("stat=pending", "stat"),
        ("since=yesterday", "since"),
        ("until=2026-02-30", "until"),
        ("text=", "text"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(client, query, field):
    response = client().get(f"/api/v1/jobs?{query}")

    assert (response.status_code, response.json["field"]) == (422, field)


@pytest.mark.parametrize(
    ("since", "moment"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00%2B02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T12:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("999999999d", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_list_is_narrowed_by_times_as_people_write_them(client, calls, since, moment):
    calls.answer("jobs.list_jobs", Page(items=[]))

    assert client().get(f"/api/v1/jobs?since={since}&text=back%20up").status_code == 200

    wanted = calls.seen["list_jobs"][0][0]
    assert (wanted.since, wanted.until, wanted.text) == (moment, None, "back up")


def test_how_long_ago_is_a_time_too(client, calls):
    calls.answer("jobs.list_jobs", Page(items=[]))
    before = datetime.now(UTC)

    assert client().get("/api/v1/jobs?since=90m").status_code == 200

    wanted = calls.seen["list_jobs"][0][0]
    assert before <= wanted.since + timedelta(minutes=90) <= datetime.now(UTC)


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


def test_the_log_of_an_unknown_job_is_a_problem_in_every_form(client, calls):
    calls.answer("logs.find", NotFound("There is no such job."))

    for query in ("", "raw=1", "download=1", "follow=1", "tail=3"):
        assert client().get(f"{JOB}/logs?{query}").status_code == 404


def test_a_log_that_cannot_be_read_is_a_problem_and_no_empty_text(client, calls):
    calls.answer("logs.find", logs.View(job_id=ID, attempt=1, ended=True))

    def broken(*_):
        raise DatabaseUnavailable()
        yield b""

    calls.answer("logs.pieces", broken)

    response = client().get(f"{JOB}/logs", headers={"Accept": "text/plain"})

    assert (response.status_code, response.mimetype) == (503, "application/problem+json")


def test_the_queue_is_narrowed_by_label(client, calls, job):
    calls.answer("jobs.list_queue", Page(items=[job]))

    response = client("scheduler").get("/api/v1/queue?label=team=data")

    assert len(response.json) == 1
    assert calls.seen["list_queue"][0][0].label == {"team": "data"}


@pytest.mark.parametrize(
    ("service", "state", "status"),
    [
        ("worker-manager", "BUSY", "running"),
        ("scheduler", "BUSY", "online"),
        ("scheduler", "TERMINATED", "offline"),
    ],
)
def test_a_workers_status_is_in_the_words_of_the_service(client, calls, service, state, status):
    worker = {"state": state, "status": "running", "provider_type": "docker", "created_at": MOMENT}
    calls.answer("workers.list_workers", Page(items=[worker]))

    shown = client(service).get("/api/v1/workers?state=BUSY&type=rust").json

    assert [(one["state"], one["status"]) for one in shown] == [(state, status)]
    assert calls.seen["list_workers"][0][0].state == ["BUSY"]
    assert calls.seen["list_workers"][0][0].worker_type == "rust"


@pytest.mark.parametrize(("heard_s", "status"), [(5, "online"), (3600, "offline"), (None, "online")])
def test_a_self_hosted_worker_is_online_while_it_is_heard_of(client, calls, heard_s, status):
    now = datetime.now(UTC)
    worker = {
        "state": "CONNECTING",
        "status": "starting",
        "provider_type": "self-hosted",
        "created_at": now,
        "last_heartbeat": None if heard_s is None else now - timedelta(seconds=heard_s),
    }
    calls.answer("workers.get_worker", worker)

    assert client("scheduler").get(f"/api/v1/workers/{ID}").json["status"] == status


def test_numbers_keep_their_kind(client, calls):
    calls.answer("providers.get_provider", {"whole": Decimal(3), "broken": Decimal("0.5"), "ids": {2, 1}})

    assert client().get("/api/v1/providers/docker").json == {"whole": 3, "broken": 0.5, "ids": [1, 2]}


def test_sagas_and_events_are_filtered_by_the_use_case(client, calls):
    calls.answer("history.list_sagas", Page(items=[]))
    calls.answer("history.list_events", Page(items=[]))
    orchestrator = client()

    assert orchestrator.get(f"/api/v1/sagas?state=FAILED&type=EXECUTION&job_id={ID}").status_code == 200
    assert orchestrator.get(f"/api/v1/events?event_type=JobCreated&correlation_id={ID}").status_code == 200
    sagas, events = calls.seen["list_sagas"][0][0], calls.seen["list_events"][0][0]
    assert (sagas.state, sagas.saga_type, sagas.job_id) == ("FAILED", "EXECUTION", ID)
    assert (events.event_type, events.correlation_id) == ("JobCreated", ID)
