"""`hodei job run` as a shell sees it: what is on stdout, and the exit code."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from platform_stand_in import JOB_ID, Answer, StandIn, entry, events, job, problem

Run = Callable[..., subprocess.CompletedProcess[str]]
JOBS = "/api/v1/jobs"
JOB = f"{JOBS}/{JOB_ID}"
SHOWN_WITHIN_S = 120.0
"""A busy machine takes its time to start a program; this is no limit of the product."""


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


def test_a_quote_that_is_not_closed_is_a_usage_error(platform: StandIn, hodei: Run) -> None:
    refused = hodei("job", "run", "--command", "echo", "--args", "it's")

    assert refused.returncode == 2
    assert refused.stderr.startswith(
        'Error: --args "it\'s" cannot be split as a shell would (no closing quotation)'
    )
    assert len(refused.stderr.splitlines()) == 1 and platform.requests("POST", JOBS) == []


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


def test_a_server_that_is_away_is_tried_again_and_that_is_said(platform: StandIn, hodei: Run) -> None:
    platform.stop()
    done = hodei("job", "list", HODEI_PATIENCE="2s")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines() == [
        f"No Hodei Jobs server at {platform.url}. Trying again ...",
        f"Error: No Hodei Jobs server at {platform.url}. Start one with: hodei dev",
    ]


@pytest.mark.parametrize("patience", ["soon", "-1", "1e9", "nan"])
def test_a_patience_that_is_no_time_is_a_usage_error(hodei: Run, patience: str) -> None:
    done = hodei("job", "list", HODEI_PATIENCE=patience)
    assert (done.returncode, done.stdout) == (2, "")
    assert "HODEI_PATIENCE" in done.stderr


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
    platform.on("GET", f"{JOB}/logs", events("attempt 1", *entries, status="failed"))
    done = hodei("job", "run", "--command", "true", "--follow")
    assert (done.returncode, done.stdout) == (7, f"{JOB_ID}\n")
    assert done.stderr == "one, two\n\x1b[31mred\x1b[0m\nStatus: FAILED (Status Code: 5)\n"


@pytest.mark.parametrize("option", ["--detach", "--wait", "--follow"])
def test_json_is_one_object_on_stdout(platform: StandIn, hodei: Run, option: str) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    platform.on("GET", JOB, job("succeeded"))
    platform.on("GET", f"{JOB}/logs", events("attempt 1", entry(1, "hi")))
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


def test_ctrl_c_without_a_terminal_leaves_the_job_and_says_how_to_go_on(
    platform: StandIn, start_hodei: Callable[..., subprocess.Popen[str]]
) -> None:
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    platform.on("GET", JOB, job("running", completed_at=None, exit_code=None))
    platform.on("GET", f"{JOB}/logs", events("attempt 1", entry(1, "working"), status=None))
    process = start_hodei("job", "run", "--command", "sleep 100", "--follow")
    assert process.stderr is not None
    assert process.stderr.readline() == "working\n"

    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (130, f"{JOB_ID}\n")
    assert f"hodei job logs {JOB_ID} --follow" in err
    assert f"hodei job cancel {JOB_ID}" in err
    assert platform.requests("POST", f"{JOB}/cancel") == []
    assert "Traceback" not in err


class Terminal:
    """`hodei job run --follow` on a terminal of its own."""

    def __init__(self, url: str, surroundings: dict[str, str]) -> None:
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            command = [sys.executable, "-m", "hodei.cli.main", "job", "run", "--command", "x", "--follow"]
            os.execvpe(command[0], command, surroundings | {"HODEI_URL": url})
        self.shown = ""

    def until(self, text: str, *, times: int = 1) -> None:
        """Read until this is shown, so many times."""
        deadline = time.monotonic() + SHOWN_WITHIN_S
        while self.shown.count(text) < times:
            ready, _, _ = select.select([self._file], [], [], deadline - time.monotonic())
            assert ready, self.shown
            try:
                self.shown += os.read(self._file, 65536).decode()
            except OSError:
                raise AssertionError(f"it ended: {self.shown}") from None

    def type(self, keys: str) -> None:
        os.write(self._file, keys.encode())

    def code(self) -> int:
        """Read to the end; the exit code."""
        with contextlib.suppress(OSError):
            while block := os.read(self._file, 65536):
                self.shown += block.decode()
        os.close(self._file)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize(
    ("keys", "cancels", "code"),
    [
        (["\x03", "d\n"], 0, 130),
        (["\x03", "c\n"], 1, 1),
        (["\x03", "\x03"], 1, 1),
        (["\x03", "what\n", "c\n"], 1, 1),
    ],
)
def test_ctrl_c_on_a_terminal_asks_whether_to_detach_or_cancel(
    platform: StandIn, surroundings: dict[str, str], keys: list[str], cancels: int, code: int
) -> None:
    # given
    platform.on("POST", JOBS, Answer(status=201, body=job("pending")))
    platform.on("GET", JOB, job("cancelled", exit_code=None))
    platform.on(
        "GET",
        f"{JOB}/logs",
        events("attempt 1", entry(1, "working"), status=None),
        *[events(status=None)] * 200,
    )
    platform.on("POST", f"{JOB}/cancel", Answer(status=202, body=job("running")))
    terminal = Terminal(platform.url, surroundings)
    terminal.until("working")

    # when
    for number, key in enumerate(keys, 1):
        terminal.type(key)
        if number < len(keys):
            terminal.until("Detach", times=number)
    if cancels:
        terminal.until("being cancelled")
        platform.on("GET", f"{JOB}/logs", events(entry(2, "told to stop"), status="cancelled"))

    # then
    assert terminal.code() == code
    assert len(platform.requests("POST", f"{JOB}/cancel")) == cancels
    assert ("told to stop" in terminal.shown) is (cancels == 1)
    assert ("The job goes on" in terminal.shown) is (cancels == 0)
    assert terminal.shown.count("working") == 1
