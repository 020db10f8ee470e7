from __future__ import annotations

import json
import logging

import pytest
import structlog

from hodei.observability.logs import configure_logging
from hodei.services.paging import Page


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_request_is_one_line_with_its_id(client, calls, capsys):
    configure_logging("json")
    calls.answer("providers.list_providers", Page(items=[]))

    client().get("/api/v1/providers?", headers={"X-Request-Id": "deploy-7"})

    (line,) = lines(capsys)
    assert line["event"] == "request"
    assert line["request_id"] == "deploy-7"
    assert (line["method"], line["path"], line["status"], line["level"]) == (
        "GET",
        "/api/v1/providers",
        200,
        "info",
    )


def test_agents_calls_are_not_logged_at_info(client, capsys):
    configure_logging("json")

    client("worker-manager").get("/api/v1/agent/inbox")

    assert lines(capsys) == []


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_bugs_traceback_is_logged_without_local_variables(client, calls, capsys, form):
    configure_logging(form)

    def broken(*_: object, **__: object) -> None:
        password = "hunter" + "2"
        raise RuntimeError("broken") from ValueError(len(password))

    calls.answer("submit.submit_job", broken)
    body = {"command": "ls", "secret_env": {"TOKEN": "not-for-logs"}}
    response = client().post("/api/v1/jobs", json=body, headers={"X-Request-Id": "deploy-8"})

    text = capsys.readouterr().err
    assert response.status_code == 500
    assert "RuntimeError: broken" in text
    assert "deploy-8" in text
    assert "hunter2" not in text
    assert "not-for-logs" not in text


def test_the_standard_librarys_loggers_speak_the_same_way(capsys):
    configure_logging("json", service="scheduler")

    logging.getLogger("some.library").warning("count %s", 3)
    structlog.get_logger("hodei.x").info("fact", job_id="j1")

    foreign, own = lines(capsys)
    assert (foreign["event"], foreign["logger"], foreign["service"]) == (
        "count 3",
        "some.library",
        "scheduler",
    )
    assert (own["event"], own["job_id"], own["level"]) == ("fact", "j1", "info")
