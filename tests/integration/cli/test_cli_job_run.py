"""`hodei job run` as a shell sees it: what is on stdout, and the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from platform_stand_in import JOB_ID, LOG_END, Answer, StandIn, entry, job, problem

Run = Callable[..., subprocess.CompletedProcess[str]]
JOBS = "/api/v1/jobs"
JOB = f"{JOBS}/{JOB_ID}"


def test_only_the_id_is_on_stdout(platform: StandIn, hodei: Run) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    done = hodei("job", "run", "--name", "hello", "--provider", "docker", "--command", "echo hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{JOB_ID}\n", "")


def test_the_job_arrives_as_typed(platform: StandIn, hodei: Run, tmp_path: Path) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    line = """for i in 1 2; do echo "$i" && bash -c 'echo "a b"'; done"""

    hodei(
        *("job", "run", "--name", "n", "--provider", "process", "--command", line, "--args", "a 'b c'"),
        *("--image", "alpine", "--env", "A=1,B=2", "--env", "C=x=y", "--secret-env", "KEY"),
        *("--cpu", "0.5", "--memory", "512m", "--timeout", "5m", "--grace", "0", "--retries", "2"),
        *("--priority", "0", "--label", "team=ml", "--detach"),
        KEY="s3cret",
    )

    [asked] = platform.requests("POST", JOBS)
    assert asked.body == {
        "name": "n", "command": line, "args": "a 'b c'", "image": "alpine",
        "env": {"A": "1", "B": "2", "C": "x=y"}, "secret_env": {"KEY": "s3cret"}, "provider": "process",
        "cpu": 0.5, "memory": "512m", "timeout_s": 300.0, "grace_s": 0.0, "retries": 2, "priority": 0,
        "labels": {"team": "ml"},
    }  # fmt: skip
    assert asked.headers["content-type"] == "application/json"


def test_a_script_comes_from_stdin(platform: StandIn, hodei: Run) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    assert hodei("job", "run", "--script", "-", stdin="echo hi\n").returncode == 0
    assert platform.requests("POST", JOBS)[0].body == {"script": "echo hi\n", "provider": "auto"}


def test_a_repeated_request_carries_the_same_key_and_another_call_another(
    platform: StandIn, hodei: Run
) -> None:
    away = Answer(status=503, body=problem(503, "database_unavailable", "The database cannot be reached."))
    platform.on("POST", JOBS, away, Answer(status=201, body=job("pending")))
    hodei("job", "run", "--command", "true")
    hodei("job", "run", "--command", "true")
    first, again, other = (asked.headers["idempotency-key"] for asked in platform.requests("POST", JOBS))
    assert first == again != other


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--command", ""),
        ("--command", "  "),
        ("--command", "true", "--script", "x.sh"),
        ("--script", "/nowhere.sh"),
        ("--command", "true", "--env", "1A=2"),
        ("--command", "true", "--secret-env", "NOT_THERE"),
        ("--command", "true", "--timeout", "-5"),
        ("--command", "true", "--priority", "10"),
        ("--command", "true", "--retries", "-1"),
        ("--command", "true", "--cpu", "0"),
        ("--command", "true", "--memory", "much"),
        ("--command", "true", "--wait", "--follow"),
        ("--command", "true", "--unknown"),
        ("--command", "true", "extra"),
    ],
)
def test_a_mistake_is_a_sentence_with_exit_code_2_and_nothing_is_sent(
    platform: StandIn, hodei: Run, arguments: tuple[str, ...]
) -> None:
    done = hodei("job", "run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert platform.asked == []


def test_a_refusal_is_the_servers_sentence_with_exit_code_3(platform: StandIn, hodei: Run) -> None:
    refusal = problem(422, "invalid_input", "There is no provider 'mars'.", field="provider")
    platform.on("POST", JOBS, Answer(status=422, body=refusal))
    done = hodei("job", "run", "--command", "true", "--provider", "mars")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "Error: There is no provider 'mars'.\n"


def test_nobody_there_is_exit_code_4_and_says_how_to_start(platform: StandIn, hodei: Run) -> None:
    platform.stop()
    done = hodei("job", "run", "--command", "true")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"Error: No Hodei Jobs server at {platform.url}. Start one with: hodei dev\n"


def test_something_else_at_the_address_is_exit_code_4(platform: StandIn, hodei: Run) -> None:
    platform.on("POST", JOBS, "<html>It works!</html>")
    done = hodei("job", "run", "--command", "true")
    assert done.returncode == 4
    assert "is not Hodei Jobs" in done.stderr


@pytest.mark.parametrize(
    ("status", "code"), [("succeeded", 0), ("failed", 7), ("cancelled", 1), ("timeout", 1)]
)
def test_wait_exits_with_the_jobs_code(platform: StandIn, hodei: Run, status: str, code: int) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    platform.on("GET", JOB, job("running"), job(status))
    done = hodei("job", "run", "--command", "true", "--wait")
    assert (done.returncode, done.stdout) == (code, f"{JOB_ID}\n")
    assert f"Status: {status.upper()}" in done.stderr
    assert platform.requests("GET", JOB)[0].query == {"wait": "30"}


def test_follow_shows_both_streams_on_stderr_and_keeps_stdout_for_the_id(
    platform: StandIn, hodei: Run
) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    platform.on("GET", JOB, job("failed"))
    entries = [entry(1, "one, ", partial=True), entry(2, "two"), entry(3, "\x1b[31mred\x1b[0m", "stderr")]
    platform.on("GET", f"{JOB}/logs", Answer(body=entries, headers=LOG_END))
    done = hodei("job", "run", "--command", "true", "--follow")
    assert (done.returncode, done.stdout) == (7, f"{JOB_ID}\n")
    assert done.stderr == "one, two\n\x1b[31mred\x1b[0m\nStatus: FAILED (Status Code: 5)\n"


@pytest.mark.parametrize("option", ["--detach", "--wait", "--follow"])
def test_json_is_one_object_on_stdout(platform: StandIn, hodei: Run, option: str) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    platform.on("GET", JOB, job("succeeded"))
    platform.on("GET", f"{JOB}/logs", Answer(body=[entry(1, "hi")], headers=LOG_END))
    done = hodei("job", "run", "--command", "true", "--format", "json", option)
    shown = json.loads(done.stdout)
    assert shown["status"] == ("pending" if option == "--detach" else "succeeded")
    assert shown["a_field_of_tomorrow"] == {"is": "ignored"}


def test_an_unknown_setting_is_one_line_on_stderr_and_no_more(platform: StandIn, hodei: Run) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    done = hodei("job", "run", "--command", "true", HODEI_DATABSE_URL="x")
    assert (done.returncode, done.stdout) == (0, f"{JOB_ID}\n")
    assert done.stderr == "Warning: HODEI_DATABSE_URL is not a setting: did you mean HODEI_DATABASE_URL?\n"


def test_the_token_is_sent_and_its_absence_is_explained(platform: StandIn, hodei: Run) -> None:
    unauthorized = problem(401, "unauthorized", "The token is missing, wrong, used or expired.")
    platform.on("POST", JOBS, Answer(status=401, body=unauthorized))
    done = hodei("--token", "t0", "job", "run", "--command", "true")
    assert platform.requests("POST", JOBS)[0].headers["authorization"] == "Bearer t0"
    assert done.returncode == 3
    assert "HODEI_API_TOKEN" in done.stderr


def test_ctrl_c_leaves_the_job_and_says_how_to_look_again(
    platform: StandIn, start_hodei: Callable[..., subprocess.Popen[str]]
) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    platform.on("GET", JOB, job("running", completed_at=None, exit_code=None))
    platform.on("GET", f"{JOB}/logs", [entry(1, "working")], [])
    process = start_hodei("job", "run", "--command", "sleep 100", "--follow")
    assert process.stderr is not None
    assert process.stderr.readline() == "working\n"

    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (130, f"{JOB_ID}\n")
    assert f"hodei job logs {JOB_ID} --follow" in err
    assert "Traceback" not in err
