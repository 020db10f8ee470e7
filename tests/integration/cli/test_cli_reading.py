"""The commands that show things."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from platform_stand_in import JOB_ID, LOG_END, Answer, StandIn, entry, job

Run = Callable[..., subprocess.CompletedProcess[str]]
JOBS = "/api/v1/jobs"
JOB = f"{JOBS}/{JOB_ID}"
OK = {"ok": True, "message": "fine"}


def health(service: str, status: str = "ok", **checks: dict[str, object]) -> dict[str, object]:
    return {"status": status, "service": service, "version": "0.1.0", "checks": {"database": OK, **checks}}


@pytest.mark.parametrize("arguments", [("--id", JOB_ID), (JOB_ID,)])
def test_get_shows_the_status_line(platform: StandIn, hodei: Run, arguments: tuple[str, ...]) -> None:
    platform.on("GET", JOB, job("succeeded"))
    done = hodei("job", "get", *arguments)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "Status: SUCCEEDED (Status Code: 4)" in lines
    assert "Provider: docker (11111111-1111-1111-1111-111111111111)" in lines
    assert "Completed: 2026-05-01 12:00:04 UTC (after 3.2 s)" in lines


def test_get_of_a_failed_job_is_no_failure_unless_it_waits(platform: StandIn, hodei: Run) -> None:
    platform.on("GET", JOB, job("failed"))
    assert hodei("job", "get", JOB_ID).returncode == 0
    assert hodei("job", "get", JOB_ID, "--wait").returncode == 7


def test_get_without_an_id_is_a_mistake_and_an_unknown_id_a_refusal(hodei: Run) -> None:
    assert hodei("job", "get").returncode == 2
    done = hodei("job", "get", "--id", "nope")
    assert (done.returncode, done.stderr) == (3, "Error: There is no such thing. Check the id.\n")


def test_the_list_goes_through_the_pages_and_shows_whole_ids(platform: StandIn, hodei: Run) -> None:
    other = "9" + JOB_ID[1:]
    following = {"Link": f'<http://inside:8080{JOBS}?cursor=abc&limit=2>; rel="next"'}
    platform.on(
        "GET",
        JOBS,
        Answer(body=[job(name="n" * 100)], headers=following),
        [job("failed", id=other, name="[red]\x1b[31m")],
    )
    done = hodei("job", "list", "--status", "FAILED", "--limit", "2")
    assert done.returncode == 0
    assert JOB_ID in done.stdout and other in done.stdout
    assert "n" * 100 in done.stdout
    assert "[red]\N{REPLACEMENT CHARACTER}[31m" in done.stdout
    assert "\x1b" not in done.stdout
    first, second = platform.requests("GET", JOBS)
    assert first.query == {"limit": "2", "status": "failed"}
    assert second.query == {"limit": "2", "cursor": "abc"}


@pytest.mark.parametrize(
    ("command", "path", "body"),
    [
        (("job", "list"), JOBS, [job()]),
        (("job", "get", JOB_ID), JOB, job()),
        (("job", "wait", JOB_ID), JOB, job()),
        (
            ("job", "events", JOB_ID),
            f"{JOB}/events",
            [{"id": "1", "event_type": "JobCreated", "payload": {}}],
        ),
        (("job", "why", JOB_ID), f"{JOB}/why", {"job_id": JOB_ID, "summary": "It ended.", "details": []}),
        (("provider", "list"), "/api/v1/providers", [{"id": "1", "name": "docker", "status": "active"}]),
        (("saga", "list"), "/api/v1/sagas", [{"id": "1", "saga_type": "EXECUTION", "state": "COMPLETED"}]),
        (("saga", "show", "1"), "/api/v1/sagas/1", {"id": "1", "saga_type": "EXECUTION", "steps": []}),
    ],
)
def test_every_reading_command_has_a_text_and_a_json_form(
    platform: StandIn, hodei: Run, command: tuple[str, ...], path: str, body: object
) -> None:
    platform.on("GET", path, body)
    shown = hodei(*command)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.strip()
    assert json.loads(hodei(*command, "--format", "json").stdout) == body


def test_logs_keep_the_streams_apart_and_the_text_as_written(platform: StandIn, hodei: Run) -> None:
    platform.on("GET", JOB, job())
    lines = [entry(1, "  é\t\x1b[1mbold"), entry(2, "oops", "stderr")]
    platform.on("GET", f"{JOB}/logs", Answer(body=lines, headers=LOG_END))
    done = hodei("job", "logs", JOB_ID)
    assert (done.returncode, done.stdout, done.stderr) == (0, "  é\t\x1b[1mbold\n", "oops\n")


def test_the_tail_of_a_log_is_fetched_without_its_beginning(platform: StandIn, hodei: Run) -> None:
    platform.on("GET", JOB, job(log={"entries": 1000, "bytes": 1, "complete": True}))
    lines = [entry(999, "nearly"), entry(1000, "last")]
    platform.on("GET", f"{JOB}/logs", Answer(body=lines, headers=LOG_END))
    done = hodei("job", "logs", JOB_ID, "--tail", "1")
    assert done.stdout == "last\n"
    assert platform.requests("GET", f"{JOB}/logs")[0].query["after"] == "999"


def test_since_leaves_out_what_is_older(platform: StandIn, hodei: Run) -> None:
    platform.on("GET", JOB, job())
    lines = [entry(1, "old", at="2026-05-01T11:00:00Z"), entry(2, "new", at="2026-05-01T12:00:00Z")]
    platform.on("GET", f"{JOB}/logs", Answer(body=lines, headers=LOG_END))
    assert hodei("job", "logs", JOB_ID, "--since", "2026-05-01T11:30:00Z").stdout == "new\n"


def test_following_goes_on_after_what_was_stored(platform: StandIn, hodei: Run) -> None:
    platform.on("GET", JOB, job("running"), job("failed"))
    platform.on("GET", f"{JOB}/logs", [entry(1, "a")], [], Answer(body=[entry(2, "b")], headers=LOG_END))
    done = hodei("job", "logs", JOB_ID, "--follow")
    assert (done.returncode, done.stdout) == (7, "a\nb\n")
    assert [asked.query["after"] for asked in platform.requests("GET", f"{JOB}/logs")] == ["0", "1", "1"]


def test_workers_are_asked_of_the_worker_manager_that_the_orchestrator_names(
    hodei: Run, platform: StandIn
) -> None:
    manager = StandIn()
    try:
        platform.on("GET", "/health", {**health("orchestrator"), "services": {"worker_manager": manager.url}})
        manager.on("GET", "/api/v1/workers", [{"id": "w1", "state": "BUSY", "provider_type": "docker"}])
        done = hodei("worker", "list")
    finally:
        manager.stop()
    assert done.returncode == 0
    assert "w1" in done.stdout and "BUSY" in done.stdout


def test_a_named_provider_that_does_not_work_is_exit_code_1(platform: StandIn, hodei: Run) -> None:
    platform.on(
        "GET", "/api/v1/providers", [{"id": "1", "name": "docker"}, {"id": "2", "name": "kubernetes"}]
    )
    platform.on("GET", "/api/v1/providers/1/health", {"id": "1", "name": "docker", "ok": True})
    bad = {
        "id": "2",
        "name": "kubernetes",
        "ok": False,
        "message": "No cluster.",
        "checks": {"api": "refused"},
    }
    platform.on("GET", "/api/v1/providers/2/health", bad)
    assert hodei("provider", "health").returncode == 0
    named = hodei("provider", "health", "kubernetes")
    assert named.returncode == 1
    assert named.stdout == "kubernetes: NOT OK. No cluster.\n  - api: refused\n"
    assert hodei("provider", "health", "mars").returncode == 3


def test_status_is_well_with_one_working_provider(platform: StandIn, hodei: Run) -> None:
    services = {"scheduler": platform.url, "worker_manager": platform.url}
    platform.on("GET", "/health", {**health("orchestrator"), "services": services})
    platform.on(
        "GET",
        "/api/v1/providers",
        [
            {"id": "1", "name": "docker", "status": "active"},
            {"id": "2", "name": "kubernetes", "status": "unhealthy", "status_reason": "No cluster"},
        ],
    )
    done = hodei("status")
    assert done.returncode == 0
    assert done.stdout.endswith("All is well.\n")
    assert "provider kubernetes: unhealthy (No cluster)" in done.stdout


def test_status_says_what_to_do(platform: StandIn, hodei: Run) -> None:
    services = {"scheduler": platform.url, "worker_manager": platform.url}
    stopped = {"ok": False, "message": "No controller has answered for 40 s."}
    sick = {**health("orchestrator", "degraded", dispatch=stopped), "services": services}
    platform.on("GET", "/health", sick)
    platform.on("GET", "/api/v1/providers", [])
    done = hodei("status")
    assert done.returncode == 1
    assert "No controller has answered for 40 s." in done.stdout
    assert "hodei controller" in done.stdout
    assert "No job can run" in done.stdout


def test_status_of_a_server_without_its_database_is_told_and_not_a_refusal(
    platform: StandIn, hodei: Run
) -> None:
    down = health("orchestrator", "down", database={"ok": False, "message": "Connection refused."})
    services = {"scheduler": platform.url, "worker_manager": platform.url}
    platform.on("GET", "/health", Answer(status=503, body={**down, "services": services}))
    done = hodei("status")
    assert done.returncode == 1
    assert "hodei db check" in done.stdout


def test_status_of_nobody_is_exit_code_4(platform: StandIn, hodei: Run) -> None:
    platform.stop()
    assert hodei("status").returncode == 4


def test_the_server_that_dev_noted_is_found(
    platform: StandIn, surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hodei.embedded import state_file

    monkeypatch.setenv("XDG_STATE_HOME", surroundings["XDG_STATE_HOME"])
    state_file.write(platform.url, token="noted")
    platform.on("GET", JOB, job())
    command = [sys.executable, "-m", "hodei.cli.main", "job", "get", JOB_ID]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    assert done.returncode == 0
    assert platform.requests("GET", JOB)[0].headers["authorization"] == "Bearer noted"


def test_a_reader_that_leaves_early_ends_it_silently(
    platform: StandIn, start_hodei: Callable[..., subprocess.Popen[str]]
) -> None:
    platform.on("GET", JOB, job())
    lines = [entry(number, "x" * 1000) for number in range(1, 400)]
    platform.on("GET", f"{JOB}/logs", Answer(body=lines, headers=LOG_END))
    process = start_hodei("job", "logs", JOB_ID)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(20) in (1, 141)


def test_psql_gets_the_password_where_nobody_can_read_it(
    surroundings: dict[str, str], hodei: Run, tmp_path: Path
) -> None:
    fake = tmp_path / "psql"
    fake.write_text('#!/bin/sh\necho "$PGPASSWORD $@"\n')
    fake.chmod(0o755)
    done = hodei(
        *("db", "psql", "-c", "select 1"),
        HODEI_DATABASE_URL="postgres://me:s%40crt@db:5433/hodei_jobs?sslmode=require",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
    )
    expected = "s@crt -c select 1 --dbname postgresql://me@db:5433/hodei_jobs?sslmode=require\n"
    assert (done.returncode, done.stdout) == (0, expected)


def test_a_setting_that_is_not_valid_stops_a_server_with_a_sentence(hodei: Run) -> None:
    done = hodei("serve", "all", HODEI_ORCHESTRATOR_PORT="many")
    assert done.returncode == 2
    assert "HODEI_ORCHESTRATOR_PORT" in done.stderr
    assert "Traceback" not in done.stderr
