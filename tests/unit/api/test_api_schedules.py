from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from hodei.domain.schedule import CatchUp, Overlap
from hodei.errors import NotFound
from hodei.services.schedules import change, create, fire, read

JOB = "0196a3c4-0000-7000-8000-0000000000aa"
ID = "0196a3c4-0000-7000-8000-000000000001"
ONE = f"/api/v1/scheduled/{ID}"
CALLED = {
    "create_schedule": create,
    "validate": create,
    "change_schedule": change,
    "delete_schedule": change,
    "trigger_schedule": fire,
    "list_schedules": read,
    "list_upcoming": read,
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """The use cases, replaced by ones that keep what they were called with."""
    kept: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def replace(name: str) -> None:
        def replaced(_platform: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
            kept[name] = (arguments, named)
            return {"id": UUID(ID)}

        monkeypatch.setattr(CALLED[name], name, replaced)

    for name in CALLED:
        replace(name)
    return kept


@pytest.fixture
def scheduler(client: Any, seen: Any) -> Any:
    return client("scheduler")


def test_everything_of_a_schedule_reaches_the_use_case(scheduler, seen):
    response = scheduler.post(
        "/api/v1/schedule",
        json={
            "job_id": JOB, "cron": "30 2 * * MON-FRI", "timezone": "Europe/Berlin", "overlap": "replace", "catch_up": "all",
            "catch_up_limit": 5, "jitter_s": 30, "start_at": "2030-01-01T00:00", "end_at": "2031-01-01T00:00:00+01:00",
            "pause_after_failures": 3, "name": "n", "command": "echo",
        },
        headers={"Idempotency-Key": "k"},
    )  # fmt: skip

    (new,), named = seen["create_schedule"]
    assert response.status_code == 201
    assert response.headers["Location"] == ONE
    assert (new.job_id, new.cron, new.schedule_time) == (UUID(JOB), "30 2 * * MON-FRI", None)
    assert (new.overlap, new.catch_up, new.catch_up_limit) == (Overlap.REPLACE, CatchUp.ALL, 5)
    assert (new.start_at, new.end_at) == ("2030-01-01T00:00", "2031-01-01T00:00:00+01:00")
    assert (new.jitter_s, new.pause_after_failures, new.name, new.command) == (30, 3, "n", "echo")
    assert named["key"].key == "k"


def test_what_is_left_out_has_its_default(scheduler, seen):
    scheduler.post("/api/v1/schedule", json={"job_id": JOB, "schedule_time": "2030-01-01T00:00:00Z"})

    (new,), named = seen["create_schedule"]
    assert (new.overlap, new.catch_up, new.timezone, new.jitter_s) == (Overlap.SKIP, CatchUp.LAST, "UTC", 0)
    assert (new.cron, new.command, new.pause_after_failures, named["key"]) == (None, None, None, None)


REFUSED = [
    ({"cron": "@daily"}, "job_id"),
    ({"job_id": JOB}, "cron"),
    ({"job_id": JOB, "cron": "@daily", "schedule_time": "2030-01-01T00:00:00Z"}, "schedule_time"),
    ({"job_id": JOB, "cron": "* * * *"}, "cron"),
    ({"job_id": JOB, "cron": "* * * * * *"}, "cron"),
    ({"job_id": JOB, "cron": "1 " * 200}, "cron"),
    ({"job_id": JOB, "cron": 5}, "cron"),
    ({"job_id": JOB, "schedule_time": "tomorrow"}, "schedule_time"),
    ({"job_id": JOB, "schedule_time": "2030-13-01T00:00:00Z"}, "schedule_time"),
    ({"job_id": JOB, "schedule_time": 1893456000}, "schedule_time"),
    ({"job_id": JOB, "cron": "@daily", "timezone": "../etc"}, "timezone"),
    ({"job_id": JOB, "cron": "@daily", "overlap": "both"}, "overlap"),
    ({"job_id": JOB, "cron": "@daily", "catch_up": "some"}, "catch_up"),
    ({"job_id": JOB, "cron": "@daily", "catch_up_limit": 0}, "catch_up_limit"),
    ({"job_id": JOB, "cron": "@daily", "jitter_s": -1}, "jitter_s"),
    ({"job_id": JOB, "cron": "@daily", "jitter_s": 86_401}, "jitter_s"),
    ({"job_id": JOB, "cron": "@daily", "pause_after_failures": 0}, "pause_after_failures"),
    ({"job_id": JOB, "cron": "@daily", "command": " "}, "command"),
    ({"job_id": JOB, "crom": "@daily"}, "crom"),
]


@pytest.mark.parametrize(("document", "field"), REFUSED)
def test_what_no_schedule_can_be_is_refused_with_the_field(scheduler, seen, document, field):
    response = scheduler.post("/api/v1/schedule", json=document)

    assert (response.status_code, response.json["field"]) == (422, field)
    assert response.json["detail"].endswith((".", "?"))
    assert seen == {}


IN_WORDS = [
    (
        "cron",
        "* * * *",
        "cron should have five fields (minute, hour, day of the month, month, day of the week)",
    ),
    ("cron", "@every 5m", "or be one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually."),
    (
        "schedule_time",
        "yesterday",
        "schedule_time should be a time from the year 2000 on, such as 2030-05-01T12:00:00Z",
    ),
    ("start_at", "1999-12-31T00:00", "start_at should be a time from the year 2000 on"),
    ("timezone", "", "timezone should be an IANA time zone, such as Europe/Berlin, or UTC."),
]
AND_WHEN = {"start_at": {"cron": "@daily"}, "timezone": {"cron": "@daily"}}


@pytest.mark.parametrize(("field", "value", "words"), IN_WORDS)
def test_the_form_of_a_text_is_said_in_words(scheduler, seen, field, value, words):
    document = {"job_id": JOB, field: value} | AND_WHEN.get(field, {})

    for refused in (
        scheduler.post("/api/v1/schedule", json=document),
        scheduler.patch(ONE, json={field: value}),
    ):
        assert (refused.status_code, refused.json["field"]) == (422, field)
        assert words in refused.json["detail"] and "^" not in refused.json["detail"]
    assert seen == {}


@pytest.mark.parametrize(("field", "value", "words"), IN_WORDS)
def test_a_validation_is_not_refused_for_what_it_is_asked(scheduler, seen, field, value, words):
    asked = {field: value} | AND_WHEN.get(field, {})

    assert scheduler.post("/api/v1/schedule/validate", json=asked).status_code == 200
    assert seen["validate"][0][0][field] == value


def test_a_change_names_only_what_was_named(scheduler, seen):
    changed = scheduler.patch(ONE, json={"status": "paused", "end_at": None, "overlap": "queue"})
    nothing = scheduler.patch(ONE, json={})
    both = scheduler.patch(ONE, json={"cron": "@daily", "schedule_time": "2030-01-01T00:00:00Z"})

    assert changed.status_code == 200
    assert seen["change_schedule"][0] == (UUID(ID), {"status": "paused", "end_at": None, "overlap": "queue"})
    assert (nothing.status_code, nothing.json["field"]) == (422, "status")
    assert (both.status_code, both.json["field"]) == (422, "schedule_time")


@pytest.mark.parametrize("name", ["name", "cron", "timezone", "overlap", "catch_up", "jitter_s", "status"])
def test_what_every_schedule_has_cannot_be_null(scheduler, seen, name):
    response = scheduler.patch(ONE, json={name: None})

    assert (response.status_code, response.json["field"]) == (422, name)


NULL = {"type": "null"}


def test_a_change_is_described_without_defaults_that_a_client_would_send(scheduler):
    schemas = scheduler.get("/openapi.json").json["components"]["schemas"]

    assert [name for name, part in schemas["ScheduleChange"]["properties"].items() if "default" in part] == []
    [with_cron, once] = schemas["ScheduleIn"]["allOf"][0]["oneOf"]
    [asked_with_cron, asked_once] = schemas["TimesIn"]["allOf"][0]["oneOf"]
    assert with_cron == asked_with_cron
    assert once["properties"] == asked_once["properties"] | {"start_at": NULL, "end_at": NULL}
    pattern = schemas["ScheduleIn"]["properties"]["cron"]["anyOf"][0]["pattern"]
    assert (
        re.search(pattern, "30 2 * * MON-FRI")
        and re.search(pattern, "@daily")
        and not re.search(pattern, "* *")
    )


def test_the_other_routes_reach_their_use_cases(scheduler, seen):
    assert scheduler.post("/api/v1/schedule/validate", json={"cron": "@daily"}).status_code == 200
    assert scheduler.post(f"{ONE}/trigger", headers={"Idempotency-Key": "k"}).status_code == 201
    assert scheduler.get(f"{ONE}/upcoming?count=3").status_code == 200
    assert scheduler.delete(ONE).status_code == 204
    assert seen["validate"][0][0]["timezone"] == "UTC"
    assert seen["trigger_schedule"][1]["key"].scope == f"POST /scheduled/{ID}/trigger"
    assert seen["list_upcoming"][1] == {"count": 3}
    assert scheduler.get(f"{ONE}/upcoming?count=101").status_code == 422
    assert scheduler.get("/api/v1/scheduled?status=asleep").status_code == 422
    assert scheduler.get("/api/v1/scheduled/nope").status_code == 404


def test_an_unknown_schedule_is_not_found(scheduler, monkeypatch):
    def missing(*_: Any) -> None:
        raise NotFound("There is no schedule.")

    monkeypatch.setattr(read, "get_schedule", missing)

    assert scheduler.get(ONE).status_code == 404
