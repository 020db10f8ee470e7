"""The commands that show things."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
import sys
import termios
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from platform_stand_in import JOB_ID, LOG_END, Answer, StandIn, entry, events, job
from support.waiting import until

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


def test_bytes_that_are_no_text_are_printed_as_they_were(
    platform: StandIn, surroundings: dict[str, str]
) -> None:
    bad = entry(1, "caf\ufffd", bytes=base64.b64encode(b"caf\xe9\0").decode())
    platform.on("GET", f"{JOB}/logs", Answer(body=[bad, entry(2, "part", partial=True)], headers=LOG_END))
    command = [sys.executable, "-m", "hodei.cli.main", "job", "logs", JOB_ID]
    done = subprocess.run(
        command, env=surroundings | {"HODEI_URL": platform.url}, capture_output=True, check=True
    )
    assert done.stdout == b"caf\xe9\0\npart"


def test_the_server_picks_what_is_wanted_of_a_log(platform: StandIn, hodei: Run) -> None:
    last = {**LOG_END, "Hodei-Log-Attempt": "2"}
    platform.on(
        "GET",
        f"{JOB}/logs",
        [entry(seq, f"error {seq}", attempt=2) for seq in range(11, 5011)],
        Answer(body=[entry(5012, "error 5012", attempt=2)], headers=last),
    )
    wanted = ("--tail", "5001", "--since", "5m", "--grep", "error", "--ignore-case", "--attempt", "2")
    done = hodei("job", "logs", JOB_ID, *wanted)
    assert done.returncode == 0
    assert done.stdout == "".join(f"error {seq}\n" for seq in [*range(11, 5011), 5012])
    first, rest = (asked.query for asked in platform.requests("GET", f"{JOB}/logs"))
    chosen = {"grep": "error", "ignore_case": "1", "attempt": "2"}
    assert first == {"after": "0", "limit": "5000", "tail": "5001", "since": "300.000s", **chosen}
    assert rest == {"after": "5010", "limit": "5000", **chosen}


def test_since_may_be_a_time(platform: StandIn, hodei: Run) -> None:
    platform.on("GET", f"{JOB}/logs", Answer(body=[], headers=LOG_END))
    hodei("job", "logs", JOB_ID, "--since", "2026-05-01T13:30:00+02:00")
    assert platform.requests("GET", f"{JOB}/logs")[0].query["since"] == "2026-05-01T11:30:00+00:00"
    assert hodei("job", "logs", JOB_ID, "--since", "soon").returncode == 2


def test_timestamps_stand_before_lines_and_not_before_their_parts(platform: StandIn, hodei: Run) -> None:
    lines = [entry(1, "one, ", partial=True), entry(2, "two"), entry(3, "three", "stderr")]
    platform.on("GET", f"{JOB}/logs", Answer(body=lines, headers=LOG_END))
    done = hodei("job", "logs", JOB_ID, "--timestamps")
    assert done.stdout == "2026-05-01T12:00:02.000000Z one, two\n"
    assert done.stderr == "2026-05-01T12:00:02.000000Z three\n"


def test_a_log_that_is_not_whole_says_so_on_stderr(platform: StandIn, hodei: Run) -> None:
    headers = {**LOG_END, "Hodei-Log-Complete": "false"}
    platform.on("GET", f"{JOB}/logs", Answer(body=[entry(1, "a")], headers=headers))
    done = hodei("job", "logs", JOB_ID)
    assert (done.returncode, done.stdout) == (0, "a\n")
    assert "ERR_1016" in done.stderr


def test_following_exits_with_the_jobs_code_and_says_when_another_attempt_begins(
    platform: StandIn, hodei: Run
) -> None:
    platform.on("GET", JOB, job("failed"))
    told = events("attempt 1", entry(1, "a"), "attempt 2", entry(1, "b", attempt=2), status="failed")
    platform.on("GET", f"{JOB}/logs", told)
    done = hodei("job", "logs", JOB_ID, "--follow", "--tail", "3")
    assert (done.returncode, done.stdout, done.stderr) == (7, "a\nb\n", "Attempt 2 begins.\n")
    [asked] = platform.requests("GET", f"{JOB}/logs")
    assert asked.query == {"follow": "1", "tail": "3"}
    assert asked.headers["accept"] == "text/event-stream"
    assert "last-event-id" not in asked.headers


def test_one_attempt_is_followed_to_its_own_end(platform: StandIn, hodei: Run) -> None:
    platform.on("GET", f"{JOB}/logs", events("attempt 1", entry(1, "a"), execution_status="failed"))
    done = hodei("job", "logs", JOB_ID, "--follow", "--attempt", "1")
    assert (done.returncode, done.stdout) == (1, "a\n")
    assert platform.requests("GET", f"{JOB}/logs")[0].query == {"follow": "1", "attempt": "1"}


def test_a_followed_log_as_json_is_an_object_a_line(platform: StandIn, hodei: Run) -> None:
    platform.on("GET", JOB, job("succeeded"))
    platform.on("GET", f"{JOB}/logs", events("attempt 1", entry(1, "a\u2028\x85b"), entry(2, "c")))
    done = hodei("job", "logs", JOB_ID, "--follow", "--format", "json")
    assert [json.loads(line)["text"] for line in done.stdout.split("\n")[:-1]] == ["a\u2028\x85b", "c"]


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


def test_a_provider_that_does_not_work_is_exit_code_1(platform: StandIn, hodei: Run) -> None:
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
    assert hodei("provider", "health").returncode == 1
    assert hodei("provider", "health", "docker").returncode == 0
    named = hodei("provider", "health", "kubernetes")
    assert named.returncode == 1
    assert named.stdout == "kubernetes: NOT OK. No cluster.\n  - api: refused\n"
    assert hodei("provider", "health", "mars").returncode == 3


def test_a_probe_is_asked_for_where_there_is_one(platform: StandIn, hodei: Run) -> None:
    listed = [
        {"id": "1", "name": "docker", "type": "docker"},
        {"id": "2", "name": "far", "type": "kubernetes"},
    ]
    platform.on("GET", "/api/v1/providers", listed)
    platform.on(
        "GET", "/api/v1/providers/1/health", {"id": "1", "name": "docker", "ok": True, "message": "Well."}
    )
    probe = {
        "id": "2",
        "name": "far",
        "ok": False,
        "message": "Not reached.",
        "checks": {"probe": "Not reached."},
    }
    platform.on("POST", "/api/v1/providers/2/probe", probe)

    done = hodei("provider", "health", "--probe")

    assert done.returncode == 1
    assert done.stdout == "docker: ok. Well.\nfar: NOT OK. Not reached.\n  - probe: Not reached.\n"
    assert platform.requests("GET", "/api/v1/providers/2/health") == []


@pytest.mark.parametrize(
    ("option", "listed"), [("--type", "PROVISIONING, EXECUTION"), ("--state", "PENDING, IN_PROGRESS")]
)
def test_a_kind_of_saga_that_does_not_exist_is_refused_with_those_that_do(
    platform: StandIn, hodei: Run, option: str, listed: str
) -> None:
    refused = hodei("saga", "list", option, "bogus")

    assert refused.returncode == 2
    assert "'bogus'" in refused.stderr and listed in refused.stderr
    assert platform.requests("GET", "/api/v1/sagas") == []


def test_the_names_of_sagas_may_be_typed_in_small_letters(platform: StandIn, hodei: Run) -> None:
    platform.on("GET", "/api/v1/sagas", [])

    assert hodei("saga", "list", "--type", "timeout", "--state", "failed").returncode == 0

    [asked] = platform.requests("GET", "/api/v1/sagas")
    assert asked.query["type"] == "TIMEOUT" and asked.query["state"] == "FAILED"


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
    assert done.stdout.endswith("Jobs can run, but not on kubernetes. See: hodei provider health\n")
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


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_somebody_made_non_blocking_gets_the_whole_log(
    platform: StandIn, surroundings: dict[str, str], unbuffered: str
) -> None:
    lines = [entry(number, f"{number} {'x' * 1000}") for number in range(1, 1000)]
    platform.on("GET", f"{JOB}/logs", Answer(body=lines, headers=LOG_END))

    own = {"HODEI_URL": platform.url, "PYTHONUNBUFFERED": unbuffered}
    printed = printed_into_a_full_pipe(["job", "logs", JOB_ID], surroundings | own)

    assert printed.decode().splitlines() == [line["text"] for line in lines]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_pipe_that_somebody_made_non_blocking_gets_a_whole_list(
    platform: StandIn, surroundings: dict[str, str], unbuffered: str, form: str
) -> None:
    jobs = [job(id=f"{number:036}", name="n" * 1000) for number in range(500)]
    platform.on("GET", JOBS, jobs)

    own = {"HODEI_URL": platform.url, "PYTHONUNBUFFERED": unbuffered}
    printed = printed_into_a_full_pipe(
        ["job", "list", "--limit", "500", "--format", form], surroundings | own
    ).decode()

    assert all(one["id"] in printed for one in jobs)
    assert form == "text" or json.loads(printed) == jobs


def printed_into_a_full_pipe(command: list[str], variables: dict[str, str]) -> bytes:
    """What the command prints into a non-blocking pipe whose reader begins when it is full."""
    source, target = os.pipe()
    os.set_blocking(target, False)
    process = subprocess.Popen(
        [sys.executable, "-m", "hodei.cli.main", *command],
        stdout=target,
        stderr=subprocess.PIPE,
        env=variables,
    )
    os.close(target)
    until(lambda: is_full(source) or process.poll() is not None, what="the pipe to be full")
    with os.fdopen(source, "rb") as pipe:
        printed = pipe.read()
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, b"")
    return printed


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_a_sentence_and_a_closed_stdout_takes_nothing(
    platform: StandIn, surroundings: dict[str, str], unbuffered: str
) -> None:
    platform.on("GET", JOBS, [job()])
    own = {"HODEI_URL": platform.url, "PYTHONUNBUFFERED": unbuffered}
    for to, code, said in ((">/dev/full", 1, b"Error: No space left on device.\n"), (">&-", 0, b"")):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {to}', "sh", sys.executable, "-m", "hodei.cli.main", "job", "list"],
            env=surroundings | own,
            stderr=subprocess.PIPE,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code, said)


def is_full(pipe: int) -> bool:
    """Whether what is in it is about all that it takes."""
    waiting = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return waiting[0] > fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) - 4096 * 2


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
