"""The command line on a running platform: what scripts and people rely on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from support.platform import RunningPlatform
from support.waiting import until

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n")


def run(platform: RunningPlatform, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return platform.hodei("job", "run", "--provider", "process", *arguments, **more)


def output(platform: RunningPlatform, done: subprocess.CompletedProcess[str]) -> str:
    """What the job wrote to stdout."""
    return platform.hodei("job", "logs", done.stdout.strip()).stdout


def test_stdout_gets_the_bare_id_whatever_is_shown_besides(running: RunningPlatform) -> None:
    # when
    bare = run(running, "--command", "echo out")
    waited = run(running, "--command", "echo out; echo err >&2", "--wait")
    with_log = run(running, "--command", "echo out; echo err >&2", "--follow")

    # then
    for done in (bare, waited, with_log):
        assert done.returncode == 0 and UUID.fullmatch(done.stdout)
    assert "Status: SUCCEEDED (Status Code: 4)" in waited.stderr
    assert "out\n" in with_log.stderr and "err\n" in with_log.stderr


def test_json_is_one_document_on_stdout(running: RunningPlatform) -> None:
    # when
    done = run(running, "--command", "exit 4", "--label", "team=data", "--wait", "--format", "json")

    # then
    job = json.loads(done.stdout)
    assert done.returncode == 4
    assert (job["status"], job["status_code"], job["exit_code"]) == ("failed", 5, 4)
    assert job["labels"] == {"team": "data"} and job["error"]["code"] == "ERR_1007"
    for command in (["job", "get", job["id"]], ["job", "why", job["id"]], ["job", "events", job["id"]]):
        assert json.loads(running.hodei(*command, "--format", "json").stdout)


def test_exit_codes_say_what_happened(running: RunningPlatform) -> None:
    # given
    nobody = {"HODEI_URL": "http://127.0.0.1:1", "HODEI_PATIENCE": "0"}

    # then
    assert run(running, "--command", "exit 9").returncode == 0, "it was submitted"
    assert run(running, "--command", "exit 9", "--wait").returncode == 9
    assert run(running, "--command", "kill -9 $$", "--follow").returncode == 137
    assert run(running, "--comand", "true").returncode == 2
    assert running.hodei("job", "list", env=nobody).returncode == 4


def test_a_line_is_seen_before_the_job_ends(running: RunningPlatform, tmp_path: Path) -> None:
    # given
    go = tmp_path / "go"
    line = f"echo first; until [ -e {go} ]; do sleep 0.05; done; echo last"
    job_id = run(running, "--command", line).stdout.strip()
    command = [sys.executable, "-m", "hodei.cli.main", "job", "logs", job_id, "--follow"]

    # when
    with subprocess.Popen(command, env=running.env, stdout=subprocess.PIPE, text=True, cwd="/") as following:
        assert following.stdout
        first, rest = _read(following.stdout)
        until(lambda: first, within_s=20, what="the first line")
        with running.client() as client:
            while_it_was_read = client.job(job_id).status
        stored = running.hodei("job", "logs", job_id).stdout
        go.touch()
        code = following.wait(30)

    # then
    assert first == ["first\n"] and while_it_was_read == "running"
    assert stored == "first\n"
    assert rest == ["last\n"] and code == 0


def _read(stream: IO[str]) -> tuple[list[str], list[str]]:
    first: list[str] = []
    rest: list[str] = []

    def read() -> None:
        first.append(stream.readline())
        rest.extend(stream)

    threading.Thread(target=read, daemon=True).start()
    return first, rest


def test_a_script_runs_by_its_first_line_with_its_arguments(running: RunningPlatform, tmp_path: Path) -> None:
    # given
    script = tmp_path / "report.py"
    script.write_text(f"#!{sys.executable} -I\nimport sys\nprint(sys.argv[1:], sys.flags.isolated)\n")

    # when
    done = run(running, "--script", str(script), "--args", """--to "two words" 'x y' z""", "--wait")

    # then
    assert done.returncode == 0, done.stderr
    assert output(running, done) == "['--to', 'two words', 'x y', 'z'] 1\n"
    [(name,)] = running.sql("SELECT name FROM jobs WHERE id::text = %s", done.stdout.strip())
    assert name == "report"


def test_arguments_are_split_as_a_shell_splits_them_and_not_expanded(running: RunningPlatform) -> None:
    # when
    done = run(running, "--command", "printf", "--args", r"""'<%s>\n' "a b" c\ d '$HOME' *""", "--wait")

    # then
    assert output(running, done) == "<a b>\n<c d>\n<$HOME>\n<*>\n"


def test_variables_keep_their_equals_signs_and_commas_and_nothing_else_is_inherited(
    running: RunningPlatform,
) -> None:
    # when
    done = run(
        running, "--command", "env", "--env", "A=b=c,D=2", "--env", "LIST=1,2,3", "--env", "EMPTY=", "--env", "D=3",
        "--wait", env={"FROM_MY_SHELL": "1"},
    )  # fmt: skip

    # then
    seen = dict(line.split("=", 1) for line in output(running, done).splitlines())
    assert {name: seen[name] for name in ("A", "D", "LIST", "EMPTY")} == {
        "A": "b=c", "D": "3", "LIST": "1,2,3", "EMPTY": "",
    }  # fmt: skip
    own = {
        "HODEI_JOB_ID",
        "HODEI_EXECUTION_ID",
        "HODEI_ATTEMPT",
        "HODEI_OUTPUT",
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
    }
    assert seen.keys() - {"A", "D", "LIST", "EMPTY", "PWD", "SHLVL", "_"} == own


def test_shell_lines_work_as_typed(running: RunningPlatform) -> None:
    # when
    done = run(
        running,
        "--command",
        """for i in 1 2; do echo "$i"; done && bash -c 'echo "it'"'"'s"' | tr a-z A-Z""",
        "--wait",
    )

    # then
    assert output(running, done) == "1\n2\nIT'S\n"


def test_a_waiting_job_says_why_and_runs_when_there_is_room(running: RunningPlatform) -> None:
    # given
    running.sql("UPDATE provider_configs SET max_workers = 0 WHERE name = 'process'")
    try:
        first, second = (run(running, "--command", "true").stdout.strip() for _ in range(2))

        # when
        why = running.hodei("job", "why", second).stdout

        # then
        assert "waits for room" in why and "process" in why and "1 jobs are before it" in why
        shown = running.hodei("job", "get", "--id", second).stdout
        assert "Status: PENDING (Status Code: 0)" in shown and "Queue position: 2" in shown
    finally:
        running.sql("UPDATE provider_configs SET max_workers = 8 WHERE name = 'process'")

    # then
    assert running.hodei("job", "wait", first).returncode == 0
    assert running.hodei("job", "wait", second).returncode == 0


def test_the_other_commands_show_what_is_there(running: RunningPlatform) -> None:
    # given
    done = run(running, "--name", "to-be-listed", "--command", "true", "--wait")
    job_id = done.stdout.strip()

    # when
    jobs = running.hodei("job", "list").stdout
    events = running.hodei("job", "events", job_id).stdout
    providers = running.hodei("provider", "list").stdout
    workers = running.hodei("worker", "list", "--format", "json").stdout
    sagas = json.loads(running.hodei("saga", "list", "--format", "json").stdout)
    saga = running.hodei("saga", "show", sagas[0]["id"]).stdout
    status = running.hodei("status")

    # then
    assert job_id in jobs and "to-be-listed" in jobs
    kinds = ["JobCreated", "JobAssigned", "JobAccepted", "JobStatusChanged"]
    assert [events.find(kind) for kind in kinds] == sorted(events.find(kind) for kind in kinds) and kinds[
        0
    ] in events
    assert "33333333-3333-3333-3333-333333333333" in providers and "ACTIVE" in providers
    [(worker_id,)] = running.sql("SELECT worker_id::text FROM jobs WHERE id::text = %s", job_id)
    assert worker_id in workers
    assert "SagaStarted" in saga and "SagaCompleted" in saga
    assert status.returncode == 0, status.stdout + status.stderr


def test_help_is_quick_and_imports_nothing_of_the_servers() -> None:
    # when
    code = (
        "import sys\nfrom hodei.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'flask', 'celery', 'sqlalchemy', 'docker', 'kubernetes', 'httpx'} & sys.modules.keys()\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    began = time.process_time()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    # then
    assert time.process_time() - began < 1
    assert done.stderr.strip() == "[]"
    assert "hodei job run" in done.stdout
