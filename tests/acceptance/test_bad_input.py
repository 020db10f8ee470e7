"""Bad input: one sentence that says what to do, the right status and exit code, and nothing half-done."""

from __future__ import annotations

import re
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.platform import RunningPlatform

ANOTHER_PAGE = "http://evil.example"
ENDS = re.compile(r"(\.|\?|: hodei [a-z -]+| Try 'hodei --help'\.)$")
"""A sentence ends with a full stop, or with the command that helps."""


@pytest.fixture(autouse=True)
def nothing_is_half_done(running: RunningPlatform) -> Iterator[None]:
    """No bad request leaves a row behind."""
    before = _rows(running)
    yield
    assert _rows(running) == before


def _rows(platform: RunningPlatform) -> list[tuple[Any, ...]]:
    return platform.sql(
        "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM sagas), (SELECT count(*) FROM hodei.secrets), "
        "(SELECT count(*) FROM domain_events WHERE event_type = 'JobCreated')"
    )


def check_sentence(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It failed with this exit code, in one line on stderr that begins with ``Error:`` and holds the words."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ") and ENDS.search(line)
    assert "Traceback" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--provider", "nomad", "--command", "true"], 3, ["nomad", "auto", "process"]),
        (["--command", ""], 2, ["--command is empty"]),
        (["--command", "true", "--timeout", "-5"], 2, ["--timeout", "'-5'", "more than 0"]),
        (["--command", "true", "--env", "NO_VALUE"], 2, ["--env", "NAME=VALUE"]),
        (["--command", "true", "--env", "HODEI_JOB_ID=x"], 3, ["HODEI_JOB_ID", "reserved"]),
        (["--command", "true", "--secret-env", "NOT_SET_HERE"], 2, ["NOT_SET_HERE", "export"]),
        (["--command", "true", "--args", "'open"], 2, ["args", "quotation"]),
        (["--provider", "process", "--image", "a:b", "--command", "true"], 3, ["image", "docker"]),
        ([], 2, ["--command", "--script"]),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_in_one_sentence(
    running: RunningPlatform, arguments: list[str], code: int, words: list[str]
) -> None:
    # when
    done = running.hodei("job", "run", *arguments)

    # then
    check_sentence(done, code, *words)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": "nomad"}, "provider"),
        ({"command": ""}, "command"),
        ({"timeout_s": -5}, "timeout_s"),
        ({"timeout_s": "soon"}, "timeout_s"),
        ({"env": {"A=B": "1"}}, "env"),
        ({"env": "A=1"}, "env"),
        ({"priority": 10}, "priority"),
        ({"memory": "much"}, "memory"),
        ({"commando": "true"}, "commando"),
    ],
)
def test_the_api_answers_422_and_names_the_field(
    running: RunningPlatform, change: dict[str, Any], field: str
) -> None:
    # when
    answer = httpx.post(
        f"{running.url}/api/v1/jobs", json={"command": "true", "provider": "process"} | change
    )

    # then
    check_problem(answer, 422)
    assert answer.json()["field"].startswith(field)


def test_one_bad_job_refuses_its_whole_batch(running: RunningPlatform) -> None:
    # when
    good, bad = {"command": "true", "provider": "process"}, {"command": "true", "provider": "nomad"}
    answer = httpx.post(f"{running.url}/api/v1/jobs/batch", json={"jobs": [good, bad]})

    # then
    check_problem(answer, 422)


def check_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["code"]
    assert ENDS.search(problem["detail"]) and "Traceback" not in problem["detail"]


def test_a_body_of_2_mb_is_refused_with_413(running: RunningPlatform) -> None:
    # when
    answer = httpx.post(
        f"{running.url}/api/v1/jobs", json={"command": "true", "env": {"A": "x" * 2_000_000}}, timeout=10
    )
    by_hand = running.hodei("job", "run", "--script", "-", input="# " + "x" * 2_000_000)

    # then
    check_problem(answer, 413)
    check_sentence(by_hand, 2, "--script - is larger than the 1048576 bytes")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"command": ', "application/json", 400),
        (b'{"command": "true"}', "text/plain", 415),
        (b"[]", "application/json", 422),
    ],
)
def test_a_body_that_is_no_job_is_refused(
    running: RunningPlatform, body: bytes, kind: str, status: int
) -> None:
    # when
    answer = httpx.post(f"{running.url}/api/v1/jobs", content=body, headers={"Content-Type": kind})

    # then
    check_problem(answer, status)


@pytest.mark.parametrize("what", ["", "/logs", "/events", "/sagas", "/executions", "/why"])
def test_an_id_that_nothing_has_is_404(running: RunningPlatform, what: str) -> None:
    # when
    answer = httpx.get(f"{running.url}/api/v1/jobs/{uuid.uuid4()}{what}")

    # then
    check_problem(answer, 404)


@pytest.mark.parametrize("verb", ["get", "logs", "why"])
def test_the_command_line_says_that_there_is_no_such_job(running: RunningPlatform, verb: str) -> None:
    # given
    nobody = str(uuid.uuid4())

    # then
    check_sentence(running.hodei("job", verb, nobody), 3, nobody, "hodei job list")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ANOTHER_PAGE},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": ANOTHER_PAGE},
        {"Origin": ANOTHER_PAGE, "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
    ],
)
def test_a_foreign_web_page_can_neither_run_nor_read_anything(
    running: RunningPlatform, headers: dict[str, str]
) -> None:
    # when
    for service in ("orchestrator", "scheduler", "worker-manager"):
        url = running.service_url(service)
        run = httpx.post(
            f"{url}/api/v1/jobs",
            headers={"Content-Type": "application/json"} | headers,
            content='{"command": "true"}',
        )
        read = httpx.get(f"{url}/api/v1/jobs", headers=headers)
        asked = httpx.options(
            f"{url}/api/v1/jobs", headers=headers | {"Access-Control-Request-Method": "POST"}
        )

        # then
        check_problem(run, 403)
        check_problem(read, 403)
        assert "HODEI_ALLOWED_" in run.json()["detail"]
        for answer in (run, read, asked):
            assert "Access-Control-Allow-Origin" not in answer.headers
        assert asked.status_code == 403


def test_the_platforms_own_page_may_ask(running: RunningPlatform) -> None:
    # when
    answer = httpx.get(
        f"{running.url}/api/v1/jobs", headers={"Origin": running.url, "Sec-Fetch-Site": "same-origin"}
    )

    # then
    assert answer.status_code == 200
