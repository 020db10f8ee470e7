"""``hodei schedule``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from platform_stand_in import JOB_ID, Answer, StandIn, problem

Run = Callable[..., subprocess.CompletedProcess[str]]
ID = "0196a3c4-0000-7000-8000-000000000001"
ONE = f"/api/v1/scheduled/{ID}"
TIMES = [{"scheduled_for": "2026-03-29T01:00:00.000000Z", "local": "2026-03-29T03:00:00+02:00"}]


def schedule(status: str = "scheduled", **more: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "name": "nightly",
        "job_id": JOB_ID,
        "status": status,
        "reason": None,
        "description": "At 02:30 every day (Europe/Berlin)",
        "next_at": "2026-03-29T01:00:00.000000Z" if status == "scheduled" else None,
        **more,
    }


@pytest.fixture
def scheduler(platform: StandIn) -> StandIn:
    """The stand-in, which names itself as the scheduler."""
    platform.on("GET", "/health", {"status": "ok", "services": {"scheduler": platform.url}})
    return platform


def test_create_writes_the_id_alone_to_stdout_and_sends_what_was_given(
    scheduler: StandIn, hodei: Run
) -> None:
    scheduler.on("POST", "/api/v1/schedule", Answer(status=201, body=schedule()))

    done = hodei(
        *("schedule", "create", "--job", JOB_ID, "--cron", "30 2 * * *", "--timezone", "Europe/Berlin"),
        *(
            "--overlap",
            "queue",
            "--catch-up",
            "all",
            "--catch-up-limit",
            "7",
            "--jitter",
            "5m",
            "--name",
            "n",
        ),
        *("--start", "2026-01-01T00:00", "--pause-after-failures", "3", "--command", "echo hi"),
    )

    assert (done.returncode, done.stdout) == (0, f"{ID}\n")
    assert done.stderr == "At 02:30 every day (Europe/Berlin). Next: 2026-03-29 01:00:00 UTC\n"
    [asked] = scheduler.requests("POST", "/api/v1/schedule")
    assert asked.headers["idempotency-key"]
    assert asked.body == {
        "job_id": JOB_ID, "cron": "30 2 * * *", "timezone": "Europe/Berlin", "overlap": "queue", "catch_up": "all",
        "catch_up_limit": 7, "jitter_s": 300.0, "name": "n", "start_at": "2026-01-01T00:00", "pause_after_failures": 3,
        "command": "echo hi",
    }  # fmt: skip


@pytest.mark.parametrize(
    "times",
    [(), ("--cron", "@daily", "--at", "2030-01-01T00:00:00Z"), ("--cron", "@daily", "--jitter", "soon")],
)
def test_create_without_one_way_to_say_when_is_a_mistake(
    scheduler: StandIn, hodei: Run, times: tuple[str, ...]
) -> None:
    done = hodei("schedule", "create", "--job", JOB_ID, *times)

    assert (done.returncode, done.stdout) == (2, "")
    assert scheduler.requests("POST", "/api/v1/schedule") == []


def test_a_refusal_is_told_as_the_server_words_it(scheduler: StandIn, hodei: Run) -> None:
    said = "cron: '61' is not a minute."
    scheduler.on("POST", "/api/v1/schedule", Answer(status=422, body=problem(422, "invalid_input", said)))

    done = hodei("schedule", "create", "--job", JOB_ID, "--cron", "61 * * * *")

    assert (done.returncode, done.stdout) == (3, "")
    assert said in done.stderr


def test_the_list_shows_when_and_why_not(scheduler: StandIn, hodei: Run) -> None:
    scheduler.on("GET", "/api/v1/scheduled", [schedule("paused", reason="Somebody paused it.")], [])

    done = hodei("schedule", "list", "--status", "PAUSED")
    none = hodei("schedule", "list")

    assert all(word in done.stdout for word in (ID, "PAUSED", "At 02:30 every day", "Somebody paused it."))
    assert scheduler.requests("GET", "/api/v1/scheduled")[0].query == {"limit": "50", "status": "paused"}
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "No schedules.\n")


def test_next_shows_the_times_of_a_schedule(scheduler: StandIn, hodei: Run) -> None:
    scheduler.on("GET", f"{ONE}/upcoming", TIMES)

    done = hodei("schedule", "next", ID, "--count", "1")

    assert done.stdout == "2026-03-29 01:00:00 UTC  (2026-03-29T03:00:00+02:00)\n"
    assert scheduler.requests("GET", f"{ONE}/upcoming")[0].query == {"count": "1"}
    assert json.loads(hodei("schedule", "next", ID, "--format", "json").stdout) == TIMES


def test_next_of_what_fires_no_more_says_why(scheduler: StandIn, hodei: Run) -> None:
    scheduler.on("GET", f"{ONE}/upcoming", [])
    scheduler.on("GET", ONE, schedule("ended", reason="Its time has come."))

    done = hodei("schedule", "next", ID)

    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "",
        "No time comes any more. Its time has come.\n",
    )


def test_next_of_an_expression_says_it_in_words_or_what_is_wrong(scheduler: StandIn, hodei: Run) -> None:
    well = {"valid": True, "message": "At 02:30 every day (UTC).", "field": None, "upcoming": TIMES}
    ill = {"valid": False, "message": "cron: '61' is not a minute.", "field": "cron", "upcoming": []}
    scheduler.on("POST", "/api/v1/schedule/validate", well, ill)

    good = hodei("schedule", "next", "--cron", "30 2 * * *")
    bad = hodei("schedule", "next", "--cron", "61 * * * *")

    assert (good.returncode, good.stderr) == (0, "At 02:30 every day (UTC).\n")
    assert good.stdout.startswith("2026-03-29 01:00:00 UTC")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "cron: '61' is not a minute." in bad.stderr
    assert hodei("schedule", "next", ID, "--cron", "@daily").returncode == 2


@pytest.mark.parametrize(("verb", "status"), [("pause", "paused"), ("resume", "scheduled")])
def test_pause_and_resume_say_what_it_is_now(scheduler: StandIn, hodei: Run, verb: str, status: str) -> None:
    scheduler.on("PATCH", ONE, schedule(status))

    done = hodei("schedule", verb, ID)

    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"Status: {status.upper()}"
    assert scheduler.requests("PATCH", ONE)[0].body == {"status": status}
    assert json.loads(hodei("schedule", verb, ID, "--format", "json").stdout)["status"] == status


def test_trigger_writes_the_jobs_id_or_why_there_is_none(scheduler: StandIn, hodei: Run) -> None:
    fired = {"schedule_id": ID, "outcome": "waiting", "job_id": JOB_ID, "reason": None}
    skipped = {"schedule_id": ID, "outcome": "skipped", "job_id": None, "reason": "It is still going."}
    scheduler.on("POST", f"{ONE}/trigger", *(Answer(status=201, body=body) for body in (fired, skipped)))

    one, other = hodei("schedule", "trigger", ID), hodei("schedule", "trigger", ID)

    assert (one.returncode, one.stdout, one.stderr) == (
        0,
        f"{JOB_ID}\n",
        "It waits for the runs before it.\n",
    )
    assert (other.returncode, other.stdout) == (1, "")
    assert other.stderr == "It was skipped: It is still going.\n"
    keys = {asked.headers["idempotency-key"] for asked in scheduler.requests("POST", f"{ONE}/trigger")}
    assert len(keys) == 2


def test_delete_says_so_and_an_unknown_id_is_a_refusal(scheduler: StandIn, hodei: Run) -> None:
    scheduler.on("DELETE", ONE, Answer(status=204))

    done = hodei("schedule", "delete", ID)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"Schedule {ID} is deleted.\n")
    assert hodei("schedule", "delete", "nope").returncode == 3
