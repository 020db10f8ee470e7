"""Jobs that are ended: cancelled, timed out, stopped, superseded. Nothing of them is left."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from agent_process import AGENT, NOBODY, Start
from agent_stand_in import StandIn
from support.waiting import until

STUBBORN_TREE = """
trap '' TERM
echo up
bash -c "trap '' TERM; (trap '' TERM; sleep 1000; sleep 1000) & sleep 1000; sleep 1000" &
while :; do sleep 1000; done
"""
DAEMON = """#!/usr/bin/env python3
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("daemon", os.getpid(), flush=True)
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os._exit(0)
os.wait()
time.sleep(%s)
"""


def processes_of(execution_id: str) -> list[int]:
    """Living processes whose environment names the execution, found by what the platform would look for."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if f"HODEI_EXECUTION_ID={execution_id}".encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def running(platform: StandIn, execution_id: str) -> bool:
    return b"up\n" in platform.output(1, execution_id)


def lives(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_time_out_ends_a_whole_tree_that_ignores_term(platform: StandIn, start: Start) -> None:
    platform.run("e-timeout", shell=STUBBORN_TREE, timeout_s=0.5, grace_s=0.3)

    code, _, _ = start().end()

    result = platform.results["e-timeout"]
    assert code == 0
    assert (result["outcome"], result["error_code"], result["exit_code"]) == ("timeout", "ERR_1005", 137)
    assert processes_of("e-timeout") == []


def test_a_job_that_writes_nothing_runs_into_its_idle_time_out(platform: StandIn, start: Start) -> None:
    platform.run(shell="for i in 1 2 3 4; do echo $i; sleep 0.2; done; sleep 1000", idle_s=0.4, grace_s=1.0)

    start().end()

    assert platform.output(1) == b"1\n2\n3\n4\n"
    assert (platform.results["e-1"]["outcome"], platform.results["e-1"]["error_code"]) == (
        "idle_timeout",
        "ERR_1015",
    )


@pytest.mark.parametrize(("reason", "error_code"), [("cancelled", None), ("timeout", "ERR_1005")])
def test_a_cancel_gives_the_job_its_grace_and_reports_what_it_wrote_in_it(
    platform: StandIn, start: Start, reason: str, error_code: str | None
) -> None:
    # given
    platform.run(
        "e-cancel", shell="trap 'sleep 0.1; echo tidied up; exit 0' TERM; echo up; sleep 1000 & wait"
    )
    agent = start()
    platform.wait_for(lambda: running(platform, "e-cancel"))
    # when
    platform.send("cancel", execution_id="e-cancel", fence=1, grace_s=5.0, reason=reason)
    agent.end()
    # then
    result = platform.results["e-cancel"]
    assert (result["outcome"], result["error_code"]) == (reason, error_code)
    assert platform.output(1, "e-cancel") == b"up\ntidied up\n"
    assert processes_of("e-cancel") == []


@pytest.mark.parametrize("graces_s", [(600.0, 0.1), (1.0, 600.0)], ids=["hurries", "delays nothing"])
def test_of_two_cancels_the_shorter_grace_counts(
    platform: StandIn, start: Start, graces_s: tuple[float, float]
) -> None:
    platform.run("e-twice", shell=STUBBORN_TREE)
    agent = start()
    platform.wait_for(lambda: running(platform, "e-twice"))

    for grace_s in graces_s:
        platform.send("cancel", execution_id="e-twice", fence=1, grace_s=grace_s, reason="cancelled")
    agent.end()

    assert platform.results["e-twice"]["outcome"] == "cancelled"
    assert processes_of("e-twice") == []


def test_a_cancel_that_comes_before_the_acceptance_starts_nothing(platform: StandIn, start: Start) -> None:
    # given
    platform.delay_s["accept"] = 0.5
    platform.run(shell="echo must not run")
    agent = start()
    platform.wait_for(lambda: platform.count("accept"))
    # when
    platform.send("cancel", execution_id="e-1", fence=1, grace_s=1.0, reason="cancelled")
    agent.end()
    # then
    assert (platform.results["e-1"]["outcome"], platform.count("started")) == ("cancelled", 0)


def test_a_cancel_that_comes_after_the_jobs_end_does_not_change_it(platform: StandIn, start: Start) -> None:
    # given a job that has ended, and a child of it that has not
    platform.run("e-late", shell="(trap '' TERM; while :; do sleep 1000; done) & echo $$")
    agent = start()
    first = Path("/proc") / platform.wait_for(lambda: platform.output(1, "e-late")).decode().strip()
    until(lambda: not first.exists(), what="its end")
    # when
    platform.send("cancel", execution_id="e-late", fence=1, grace_s=0.0, reason="cancelled")
    agent.end()
    # then
    assert (platform.results["e-late"]["outcome"], platform.results["e-late"]["exit_code"]) == ("exited", 0)
    assert processes_of("e-late") == []


def test_a_cancel_of_another_fence_changes_nothing(platform: StandIn, start: Start) -> None:
    platform.run(shell="echo up; sleep 0.5")
    agent = start()
    platform.wait_for(lambda: running(platform, "e-1"))

    platform.send("cancel", execution_id="e-1", fence=7, grace_s=0.0, reason="cancelled")
    agent.end()

    assert platform.results["e-1"]["outcome"] == "exited"


def test_a_job_that_was_stopped_hears_its_cancel(platform: StandIn, start: Start) -> None:
    # given
    platform.run(shell="trap 'echo bye; exit 0' TERM; echo up; kill -STOP $$; while :; do sleep 0.1; done")
    agent = start()
    platform.wait_for(lambda: running(platform, "e-1"))
    # when
    platform.send("cancel", execution_id="e-1", fence=1, grace_s=10.0, reason="cancelled")
    agent.end()
    # then
    assert platform.results["e-1"]["outcome"] == "cancelled"
    assert platform.output(1) == b"up\nbye\n"


@pytest.mark.parametrize("sleeps", [0, 1000])
def test_a_daemon_that_left_the_session_is_ended_with_its_job(
    platform: StandIn, start: Start, sleeps: int
) -> None:
    # given
    platform.run(script=DAEMON % sleeps, grace_s=1.0)
    agent = start()
    platform.wait_for(lambda: b"daemon" in platform.output(1))
    # when
    if sleeps:
        platform.send("cancel", execution_id="e-1", fence=1, grace_s=1.0, reason="cancelled")
    agent.end()
    # then
    assert not lives(int(platform.output(1).split()[1]))
    assert platform.results["e-1"]["outcome"] == ("cancelled" if sleeps else "exited")


def test_a_background_child_that_holds_the_pipe_does_not_hold_the_job(
    platform: StandIn, start: Start
) -> None:
    platform.run(
        "e-bg", shell="(trap '' TERM; while :; do sleep 1000; done) & echo done; exit 0", grace_s=0.2
    )
    began = time.monotonic()

    start().end()

    assert time.monotonic() - began < 5
    assert (platform.results["e-bg"]["outcome"], platform.results["e-bg"]["exit_code"]) == ("exited", 0)
    assert platform.output(1, "e-bg") == b"done\n"
    assert processes_of("e-bg") == []


def test_what_a_job_leaves_running_may_say_goodbye(platform: StandIn, start: Start) -> None:
    child = "(trap 'echo bye; exit' TERM; touch $TMPDIR/ready; while :; do sleep 0.05; done) &"
    platform.run(shell=f"{child} until [ -e $TMPDIR/ready ]; do sleep 0.05; done; echo done")

    start().end()

    assert platform.results["e-1"]["exit_code"] == 0
    assert platform.output(1) == b"done\nbye\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_agent_ends_the_job_and_delivers_log_and_result(
    platform: StandIn, start: Start, number: int
) -> None:
    # given
    platform.run("e-term", shell="trap 'echo last words; exit 0' TERM; echo up; sleep 1000 & wait")
    agent = start()
    platform.wait_for(lambda: running(platform, "e-term"))
    # when
    agent.process.send_signal(number)
    code, out, _ = agent.end()
    # then
    assert code == 0
    assert (platform.results["e-term"]["outcome"], platform.results["e-term"]["error_code"]) == (
        "worker_stopped",
        "ERR_1008",
    )
    assert platform.output(1, "e-term") == out == b"up\nlast words\n"
    assert platform.calls[-1].body == {"reason": "sigterm"}


def test_a_job_that_resists_is_killed_in_time_before_docker_stop_kills_the_agent(
    platform: StandIn, start: Start
) -> None:
    platform.run("e-resists", shell=STUBBORN_TREE, grace_s=600.0)
    agent = start()
    platform.wait_for(lambda: running(platform, "e-resists"))

    agent.process.terminate()
    agent.end(timeout_s=10)

    assert platform.results["e-resists"]["outcome"] == "worker_stopped"
    assert processes_of("e-resists") == []


def test_an_idle_agent_leaves_at_once_on_a_signal(platform: StandIn, start: Start) -> None:
    agent = start()
    platform.wait_for(lambda: platform.count("inbox"))

    agent.process.send_signal(signal.SIGTERM)

    assert agent.end()[0] == 0
    assert platform.calls[-1].body == {"reason": "sigterm"}


def test_a_shutdown_message_is_as_a_signal(platform: StandIn, start: Start) -> None:
    platform.run("e-down", shell=STUBBORN_TREE)
    agent = start()
    platform.wait_for(lambda: running(platform, "e-down"))

    platform.send("shutdown", grace_s=0.2)

    assert agent.end()[0] == 0
    assert platform.results["e-down"]["outcome"] == "worker_stopped"
    assert processes_of("e-down") == []


def test_a_killed_agent_takes_its_jobs_first_process_with_it(platform: StandIn, start: Start) -> None:
    platform.run("e-orphan", shell="echo up; exec sleep 1000")
    agent = start()
    platform.wait_for(lambda: running(platform, "e-orphan"))
    (pid,) = processes_of("e-orphan")

    agent.process.send_signal(signal.SIGKILL)
    agent.end()

    deadline = time.monotonic() + 5
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not lives(pid)


@pytest.mark.parametrize("route", ["accept", "started", "frames", "heartbeat"])
def test_a_superseded_attempt_is_killed_and_says_no_more(platform: StandIn, start: Start, route: str) -> None:
    # given
    platform.answer_registration["max_jobs"] = 0
    if route != "heartbeat":
        platform.fail(route, 409, code="stale_attempt")
    platform.run("e-stale", shell=STUBBORN_TREE)
    platform.run("e-next", shell="echo next")
    agent = start()
    # when
    if route == "heartbeat":
        platform.wait_for(lambda: running(platform, "e-stale"))
        with platform.changed:
            platform.stale = ["e-stale"]
    # then: the agent is free for the next job, which waits for the end of the first
    platform.wait_for(lambda: platform.results)
    assert set(platform.results) == {"e-next"}
    assert processes_of("e-stale") == []
    agent.process.send_signal(signal.SIGTERM)
    assert agent.end()[0] == 0


def test_a_worker_for_one_job_leaves_when_that_was_superseded(platform: StandIn, start: Start) -> None:
    platform.fail("frames", 409, code="stale_attempt")
    platform.run("e-gone", shell=STUBBORN_TREE)

    code, _, _ = start().end()

    assert code == 0
    assert not platform.results
    assert platform.calls[-1].body == {"reason": "idle"}
    assert processes_of("e-gone") == []


def test_a_token_that_is_worth_nothing_kills_the_job(platform: StandIn, start: Start) -> None:
    platform.run("e-401", shell=STUBBORN_TREE)
    agent = start()
    platform.wait_for(lambda: running(platform, "e-401"))

    platform.fail("heartbeat", 401)

    assert agent.end()[0] == 3
    assert processes_of("e-401") == []
    assert not platform.results


def test_a_lease_that_ran_out_kills_the_job(platform: StandIn, start: Start) -> None:
    # given
    platform.lease_s = platform.answer_registration["lease_s"] = 1.0
    platform.run("e-lease", shell=STUBBORN_TREE)
    agent = start()
    platform.wait_for(lambda: running(platform, "e-lease"))
    # when
    platform.close()
    # then
    assert agent.end()[0] == 5
    assert processes_of("e-lease") == []


def test_an_acceptance_that_is_heard_after_its_lease_starts_nothing(platform: StandIn, start: Start) -> None:
    # given an agent whose other calls go well
    platform.lease_s = platform.answer_registration["lease_s"] = 1.0
    platform.delay_s["accept"] = 1.5
    platform.run(shell="echo must not run")
    # when
    agent = start()
    # then
    assert agent.end()[0] == 5
    assert platform.count("accept") == 1
    assert platform.count("started") == 0


def test_a_job_without_rights_is_ended_as_well(platform: StandIn, start: Start, nobodys_python: str) -> None:
    platform.run("e-nobody", shell=STUBBORN_TREE, timeout_s=0.5, grace_s=0.2)

    start(command=[nobodys_python, "-I", "-S", "-B", str(AGENT)], user=NOBODY).end()

    assert platform.results["e-nobody"]["outcome"] == "timeout"
    assert processes_of("e-nobody") == []


def test_what_a_job_wrote_to_its_output_file_is_in_its_result_without_its_secrets(
    platform: StandIn, start: Start
) -> None:
    # given
    platform.run(
        shell='echo "tag=v1" >> $HODEI_OUTPUT; printf "notes<<E\\none\\nE\\ntoken=$T\\n" >> $HODEI_OUTPUT; exit 3',
        secrets={"T": "very-secret"},
    )
    # when
    start().end()
    # then
    result = platform.results["e-1"]
    assert (result["outcome"], result["exit_code"], result["outputs_problem"]) == ("exited", 3, None)
    assert result["outputs"] == {"tag": "v1", "notes": "one", "token": "***"}


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("head -c 70000 /dev/zero | tr '\\0' x > $HODEI_OUTPUT", "Its outputs are more than 65536 bytes, so none were taken."),
        ("echo nonsense > $HODEI_OUTPUT", "Line 1 of its outputs is not KEY=VALUE."),
        ("rm $HODEI_OUTPUT; mkfifo $HODEI_OUTPUT", "What $HODEI_OUTPUT names is not a file any more."),
    ],
)  # fmt: skip
def test_an_output_file_that_cannot_be_taken_costs_no_result_and_the_log_says_so(
    platform: StandIn, start: Start, command: str, problem: str
) -> None:
    platform.run(shell=f"{command}; echo done")
    start().end()

    result = platform.results["e-1"]
    assert (result["outcome"], result["outputs"], result["outputs_problem"]) == ("exited", {}, problem)
    assert f"[hodei: {problem}]" in platform.output(3).decode()
