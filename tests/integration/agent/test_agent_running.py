"""What a job gets, what it writes, and how its end is reported."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from agent_process import AGENT, NOBODY, Start
from agent_stand_in import StandIn


def test_a_shell_line_runs_and_its_output_and_end_are_reported(platform: StandIn, start: Start) -> None:
    # given
    platform.run(shell="for i in 1 2 3; do echo hello $i; done && echo problem >&2")
    # when
    code, out, err = start().end()
    # then
    assert code == 0
    result = platform.results["e-1"]
    assert (result["outcome"], result["exit_code"], result["error_code"]) == ("exited", 0, None)
    assert platform.output(1) == out == b"hello 1\nhello 2\nhello 3\n"
    assert platform.output(2) == err == b"problem\n"
    assert (result["log_entries"], result["log_bytes"]) == (4, len(out) + len(err))
    assert result["started_at"] <= result["finished_at"]
    assert result["usage"]["max_rss_bytes"] > 0


def test_calls_come_in_the_order_of_the_protocol(platform: StandIn, start: Start) -> None:
    platform.run(shell="echo hello")

    start().end()

    routes = [call.route for call in platform.calls if call.route not in ("inbox", "heartbeat")]
    assert routes == ["register", "accept", "started", "frames", "result", "goodbye"]
    assert [call.route for call in platform.calls][:2] == ["register", "inbox"]
    assert platform.calls[-1].body == {"reason": "done"}
    assert all(re.fullmatch(r"[\w-]{43}", call.token) for call in platform.calls[1:])


@pytest.mark.parametrize(
    ("job", "outcome", "exit_code", "error_code"),
    [
        ({"shell": "exit 3"}, "exited", 3, "ERR_1007"),
        ({"shell": "nosuchcommand"}, "exited", 127, "ERR_1001"),
        ({"shell": "/etc/passwd"}, "exited", 126, "ERR_1002"),
        ({"shell": "kill -SEGV $$"}, "signalled", 139, "ERR_1006"),
        ({"shell": "kill -KILL $$"}, "signalled", 137, "ERR_1006"),
        ({"argv": ["nosuchcommand", "a"]}, "not_started", 127, "ERR_1001"),
        ({"argv": ["/etc/passwd"]}, "not_started", 126, "ERR_1002"),
        ({"argv": ["false"]}, "exited", 1, "ERR_1007"),
        ({"script": "#!/no/such/interpreter\n"}, "not_started", 127, "ERR_1001"),
        ({"argv": ["sh", "-c", "exit 4"], "shell": "true"}, "not_started", None, "ERR_1009"),
        ({"shell": "true", "env": {"A=B": "1"}}, "not_started", None, "ERR_1009"),
        ({"argv": ["echo", "\ud800"]}, "not_started", None, "ERR_1009"),
    ],
)
def test_each_end_has_its_outcome_and_code(
    platform: StandIn, start: Start, job: dict, outcome: str, exit_code: int | None, error_code: str
) -> None:
    platform.run(**job)

    code, _, _ = start().end()

    result = platform.results["e-1"]
    assert code == 0
    assert (result["outcome"], result["exit_code"], result["error_code"]) == (outcome, exit_code, error_code)
    assert result["error_message"].endswith((".", "see the log."))


def test_a_script_runs_by_its_first_line_with_its_arguments(platform: StandIn, start: Start) -> None:
    platform.run(script="#!/usr/bin/env python3\nimport sys; print(sys.argv[1:])\n", args=["a b", "c"])

    start().end()

    assert platform.output(1) == b"['a b', 'c']\n"


def test_a_script_without_first_line_runs_in_a_shell_outside_the_jobs_folder(
    platform: StandIn, start: Start
) -> None:
    platform.run(script='ls -A; echo "$0" "$1"', args=["x"])

    start().end()

    line = platform.output(1).decode()
    assert line.endswith("/script x\n") and line.count("\n") == 1


def test_the_environment_is_exactly_what_was_promised(platform: StandIn, start: Start) -> None:
    # given
    platform.run(argv=["env"], env={"A": "b=c", "Ü": "ö"}, secrets={"S": "hidden"})
    # when
    start().end()
    # then
    seen = dict(line.split("=", 1) for line in platform.output(1).decode().splitlines())
    own = {"HODEI_JOB_ID": "j-1", "HODEI_EXECUTION_ID": "e-1", "HODEI_ATTEMPT": "1"}
    assert seen.keys() == own.keys() | {"HODEI_OUTPUT", "PATH", "HOME", "LANG", "TMPDIR", "A", "Ü", "S"}
    assert own.items() <= seen.items()
    assert (seen["A"], seen["Ü"], seen["S"], seen["LANG"]) == ("b=c", "ö", "***", "C.UTF-8")


def test_the_job_is_in_a_session_and_a_private_empty_folder_of_its_own(
    platform: StandIn, start: Start
) -> None:
    # given
    script = """#!/usr/bin/env python3
import os, signal, stat, sys
assert os.getsid(0) == os.getpid()
assert os.getcwd() == os.environ["HOME"] and os.listdir() == []
assert stat.S_IMODE(os.stat(".").st_mode) == 0o700
open("file", "w"); open(os.environ["TMPDIR"] + "/file", "w")
assert sorted(map(int, os.listdir("/proc/self/fd")))[:3] == [0, 1, 2]
assert len(os.listdir("/proc/self/fd")) == 4, os.listdir("/proc/self/fd")
assert os.readlink("/proc/self/fd/0") == "/dev/null"
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
assert int(status["SigBlk"], 16) == 0
ignored = int(status["SigIgn"], 16)
assert ignored == (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1), hex(ignored)  # Python's own doing
os.mkdir("locked"); open("locked/file", "w"); os.chmod("locked", 0)
print(os.getcwd())
"""
    platform.run(script=script)
    # when
    _, out, err = start().end()
    # then
    assert platform.results["e-1"]["exit_code"] == 0, err
    assert not Path(out.decode().strip()).parent.parent.exists()


def test_a_closed_reader_ends_a_writer_in_the_job(platform: StandIn, start: Start) -> None:
    platform.run(shell="yes | head -1; echo ${PIPESTATUS[0]}", timeout_s=10)

    start().end()

    assert platform.output(1) == b"y\n141\n"


def test_nothing_is_lost_of_output_without_a_final_newline_or_with_bytes_that_are_no_text(
    platform: StandIn, start: Start
) -> None:
    platform.run(shell=r"printf 'a\n\377\376b\n\303'; printf 'no newline' >&2")

    _, out, err = start().end()

    assert platform.output(1) == out == b"a\n\xff\xfeb\n\xc3"
    assert platform.output(2) == err == b"no newline"
    assert platform.results["e-1"]["log_entries"] == 4


def test_a_prompt_shows_while_the_job_waits(platform: StandIn, start: Start) -> None:
    platform.run(shell="printf 'ready? '; read -t 20 answer < <(sleep 20)")
    agent = start()

    platform.wait_for(lambda: platform.frames.get("e-1"))

    assert platform.output(1) == b"ready? "
    assert not platform.results
    platform.send("cancel", execution_id="e-1", fence=1, grace_s=1.0, reason="cancelled")
    agent.end()


def test_a_character_is_not_cut_by_a_pause_within_it(platform: StandIn, start: Start) -> None:
    platform.run(shell=r"printf 'gr\303'; sleep 0.2; printf '\274n\n'")

    start().end()

    assert all(s.data.decode() for s in platform.segments())
    assert platform.output(1).decode() == "grün\n"


def test_ten_megabytes_arrive_whole_and_in_order(platform: StandIn, start: Start) -> None:
    platform.run(shell="seq 1 1400000; seq 1 1000 >&2")

    _, out, err = start().end()

    expected = b"".join(b"%d\n" % i for i in range(1, 1_400_001))
    assert hashlib.sha256(platform.output(1)).digest() == hashlib.sha256(expected).digest()
    assert out == expected
    assert platform.output(2) == err
    assert platform.results["e-1"]["log_entries"] == 1_401_000


def test_a_line_without_an_end_is_split_and_kept_whole(platform: StandIn, start: Start) -> None:
    platform.run(shell="head -c 300000 /dev/zero | tr '\\0' x; echo")

    start().end()

    assert platform.output(1) == b"x" * 300_000 + b"\n"
    assert any(s.flags & 1 for s in platform.segments())


def test_the_log_is_cut_visibly_at_its_cap_and_the_job_goes_on(platform: StandIn, start: Start) -> None:
    platform.run(shell="seq 1 100000; exit 5", log_max_bytes=1000)

    _, out, err = start().end()

    result = platform.results["e-1"]
    assert (result["truncated"], result["exit_code"]) == (True, 5)
    assert len(platform.output(1)) == len(out) == 1000
    assert platform.output(3) == err == b"[hodei: log cut at 1000 bytes]\n"
    assert result["dropped_bytes"] == 588_895 - 1000


def test_a_job_that_closes_its_pipes_goes_on_until_it_ends(platform: StandIn, start: Start) -> None:
    platform.run(shell="echo before; exec >&- 2>&-; sleep 0.3; exit 6")

    start().end()

    assert platform.results["e-1"]["exit_code"] == 6
    assert platform.output(1) == b"before\n"


def test_the_agents_own_stdout_may_be_closed(platform: StandIn, start: Start) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    platform.run(shell="seq 1 100000")

    code, _, _ = start(stdout=writer).end()
    os.close(writer)

    assert code == 0
    assert len(platform.output(1)) == 588_895


def test_a_blocked_stdout_does_not_keep_the_log_and_the_result_back(platform: StandIn, start: Start) -> None:
    reader, writer = os.pipe()  # nobody reads
    platform.run(shell="seq 1 1000000")

    code, _, _ = start(stdout=writer).end()
    os.close(reader)
    os.close(writer)

    assert code == 0
    assert len(platform.output(1)) == 6_888_896


def test_a_second_run_of_a_known_execution_is_ignored(platform: StandIn, start: Start) -> None:
    # given
    platform.answer_registration["max_jobs"] = 0
    platform.run(shell="echo once")
    platform.run(shell="echo once")
    platform.run("e-2", shell="echo twice")
    agent = start()
    # when
    platform.wait_for(lambda: len(platform.results) == 2)
    platform.send("drain")
    # then
    assert agent.end()[0] == 0
    assert platform.count("result") == 2
    assert platform.output(1) == b"once\n"
    assert platform.calls[-1].body == {"reason": "drained"}


def test_a_job_whose_folders_cannot_be_made_fails_for_its_host(
    platform: StandIn, start: Start, tmp_path: Path
) -> None:
    # given
    agent = start(command=[sys.executable, "-I", "-S", "-B", str(AGENT), "--state-dir", str(tmp_path)])
    platform.wait_for(lambda: platform.count("inbox"))
    [state_dir] = tmp_path.iterdir()
    (state_dir / "1").touch()
    # when
    platform.run(shell="echo must not run")
    agent.end()
    # then
    result = platform.results["e-1"]
    assert (result["outcome"], result["error_code"]) == ("not_started", "ERR_1012")


@pytest.mark.parametrize("way", ["module", "launcher"])
def test_every_way_to_start_it_works(platform: StandIn, start: Start, way: str) -> None:
    commands = {
        "module": [sys.executable, "-m", "hodei_agent"],
        "launcher": ["/bin/sh", str(AGENT / "launch.sh")],
    }
    platform.run(shell="echo hello")

    code, out, err = start(command=commands[way]).end()

    assert (code, out, err) == (0, b"hello\n", b"")


def test_an_image_without_python_is_told_in_a_sentence(start: Start, tmp_path: Path) -> None:
    code, _, err = start(
        command=[
            "/bin/sh",
            "-c",
            f"sed s,/usr/,/no/,g {AGENT}/launch.sh > {tmp_path}/l; PATH=/none; . {tmp_path}/l",
        ]
    ).end()

    assert code == 70
    assert b"Python 3.8" in err and err.count(b"\n") == 1


def python(version: str) -> str:
    """That version's interpreter, from the PATH or from pyenv; skips when there is none."""
    candidates = [
        shutil.which(f"python{version}"),
        *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ]
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "-V"], capture_output=True, check=False).returncode == 0:
            return os.path.realpath(candidate)
    pytest.skip(f"no Python {version} here")


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13", "3.14"])
def test_it_runs_on_every_python_from_3_8(platform: StandIn, start: Start, version: str) -> None:
    platform.run("e-py", shell=f"echo {version}; sleep 1000 & exit 2", grace_s=1.0)

    command = [python(version), "-I", "-S", "-B", "-W", "error", str(AGENT)]
    code, out, err = start(command=command).end()

    assert (code, out, err) == (0, version.encode() + b"\n", b"")
    assert platform.results["e-py"]["exit_code"] == 2


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
def test_an_older_python_says_that_it_is_too_old(start: Start, version: str) -> None:
    code, out, err = start(command=[python(version), "-B", str(AGENT)]).end()

    assert (code, out, err.count(b"\n")) == (70, b"", 1)
    assert f"Python {version}".encode() in err


def test_no_job_can_read_the_agents_secrets(platform: StandIn, start: Start, nobodys_python: str) -> None:
    # given
    platform.run(
        shell="for f in environ mem maps; do head -c 1 /proc/$PPID/$f 2>&1; done;"
        "tr '\\0' ' ' </proc/$PPID/cmdline"
    )
    # when
    agent = start(command=[nobodys_python, "-I", "-S", "-B", str(AGENT)], user=NOBODY)
    agent.end()
    # then
    seen = platform.output(1)
    for file in (b"environ", b"mem", b"maps"):
        assert re.search(rb"/proc/\d+/" + file + rb"'?( for reading)?: Permission denied", seen), seen
    session_token = platform.calls[-1].token.encode()
    assert b"one-time" not in seen and session_token not in seen
    assert b"hodei_agent" in seen
