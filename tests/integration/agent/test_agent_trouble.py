"""A platform that is away, slow or broken: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import subprocess
import time

import pytest
from agent_process import Start
from agent_stand_in import StandIn

ROUTES = ["register", "inbox", "accept", "started", "frames", "result", "goodbye", "heartbeat"]


@pytest.mark.parametrize("do", ["before", "after", 500, 429])
def test_any_call_may_fail_and_is_made_again(platform: StandIn, start: Start, do: str | int) -> None:
    # given
    for route in ROUTES:
        platform.fail(route, do, times=2)
    platform.run(shell="for i in 1 2 3; do echo $i; sleep 0.1; done")
    # when
    code, out, err = start().end()
    # then
    assert (code, out, err) == (0, b"1\n2\n3\n", b"")
    assert platform.output(1) == out
    assert platform.results["e-1"]["exit_code"] == 0


def test_a_lost_answer_to_the_registration_is_asked_for_again_with_the_same_tokens(
    platform: StandIn, start: Start
) -> None:
    platform.fail("register", "after")
    platform.run(shell="true")

    assert start().end()[0] == 0

    first, second = (call for call in platform.calls if call.route == "register")
    assert (first.token, first.body["session_token"]) == (second.token, second.body["session_token"])


@pytest.mark.parametrize(("status", "exit_code"), [(401, 3), (400, 4), (422, 4), (426, 4)])
def test_a_refused_registration_is_said_in_one_sentence(
    platform: StandIn, start: Start, status: int, exit_code: int
) -> None:
    platform.fail("register", status)

    code, out, err = start().end()

    assert (code, out, err.count(b"\n")) == (exit_code, b"", 1)
    assert err.startswith(b"hodei-agent: ") and b"one-time-token" not in err


def test_a_missing_setting_is_said_in_one_sentence(platform: StandIn, start: Start) -> None:
    code, _, err = start(env={"HODEI_TOKEN": ""}).end()

    assert code == 4
    assert b"HODEI_TOKEN" in err and err.count(b"\n") == 1


def test_a_platform_that_was_away_gets_all_output_once_and_in_order(platform: StandIn, start: Start) -> None:
    # given
    platform.run(shell="for i in $(seq 1 60); do echo line $i; sleep 0.05; done")
    agent = start()
    platform.wait_for(lambda: platform.output(1).count(b"\n") >= 5)
    # when
    platform.close()
    time.sleep(2.5)
    platform.open()
    # then
    code, out, _ = agent.end()
    assert code == 0
    assert platform.output(1) == out == b"".join(b"line %d\n" % i for i in range(1, 61))


def test_a_job_ends_while_the_platform_is_away_and_its_result_comes_later(
    platform: StandIn, start: Start
) -> None:
    platform.run(shell="echo up; sleep 0.3; seq 1 1000000; exit 9")
    agent = start()
    platform.wait_for(lambda: platform.output(1))

    platform.close()
    time.sleep(1.0)
    platform.open()

    assert agent.end()[0] == 0
    assert platform.results["e-1"]["exit_code"] == 9
    assert len(platform.output(1)) == 3 + 6_888_896


def test_a_slow_platform_slows_the_sender_and_not_the_job(platform: StandIn, start: Start) -> None:
    # given: half a second for each call with frames, and 14 MB of output
    platform.delay_s["frames"] = 0.5
    platform.run(shell="for i in 1 2; do seq 1 1000000; done; echo end >&2; date +%s%N >&2")
    # when
    agent = start()
    platform.wait_for(lambda: platform.count("started"))
    began_ns = time.time_ns()
    code, out, err = agent.end(60)
    # then
    assert code == 0
    ended_ns = int(err.split()[1])
    assert (ended_ns - began_ns) / 1e9 < 5
    assert platform.output(1) == out
    assert len(out) == 2 * 6_888_896


def test_a_full_spool_drops_output_and_says_so(platform: StandIn, start: Start) -> None:
    # given
    platform.answer_registration["log"]["spool_bytes"] = 1024 * 1024
    platform.delay_s["frames"] = 2.5
    platform.run(shell="seq 1 1000000; sleep 3.5; echo after")
    # when
    code, _, err = start().end()
    # then
    result = platform.results["e-1"]
    assert code == 0
    assert result["dropped_bytes"] > 1_000_000
    assert b" lines (" in err and b"were dropped here" in err
    assert platform.output(3) == err
    output = platform.output(1)
    assert output.endswith(b"after\n")
    assert len(output) + result["dropped_bytes"] == 6_888_896 + len(b"after\n")
    assert output.count(b"\n") + result["dropped_entries"] >= 1_000_001


def test_a_full_spool_slows_the_job_while_the_platform_takes_and_nothing_is_dropped(
    platform: StandIn, start: Start
) -> None:
    # given: a call that is answered after 0.1 s, a small spool, and more than it and the agent's memory hold
    platform.answer_registration["log"]["spool_bytes"] = 1024 * 1024
    platform.delay_s["frames"] = 0.1
    platform.run(shell="for i in 1 2 3 4 5 6; do seq 1 1000000; done")
    # when
    code, out, _ = start().end(60)
    # then
    result = platform.results["e-1"]
    assert (code, result["dropped_bytes"]) == (0, 0)
    assert len(out) == 6 * 6_888_896
    assert platform.output(1) == out


def test_an_agent_that_is_told_to_stop_while_the_platform_is_away_delivers_all_later(
    platform: StandIn, start: Start
) -> None:
    # given
    platform.run(shell="trap 'echo last words; exit 0' TERM; seq 1 300000; echo up >&2; sleep 1000 & wait")
    agent = start()
    platform.wait_for(lambda: platform.output(2))
    platform.close()
    # when
    agent.process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        agent.process.wait(1.0)
    platform.open()
    # then
    code, out, _ = agent.end()
    assert code == 0
    assert platform.output(1) == out == b"".join(b"%d\n" % i for i in range(1, 300_001)) + b"last words\n"
    assert platform.results["e-1"]["outcome"] == "worker_stopped"


def test_an_acknowledgement_that_lags_makes_the_frames_come_again(platform: StandIn, start: Start) -> None:
    # given: the answer to the frames is lost after they were stored
    platform.fail("frames", "after", times=3)
    platform.run(shell="echo one; sleep 0.2; echo two")
    # when
    start().end()
    # then
    assert platform.repeated_frames >= 1
    assert platform.output(1) == b"one\ntwo\n"


def test_heartbeats_go_on_beside_a_busy_job_and_name_it(platform: StandIn, start: Start) -> None:
    platform.run(shell="echo up; sleep 0.6")

    start().end()

    beats = [call.body for call in platform.calls if call.route == "heartbeat"]
    assert len(beats) >= 4
    assert {"id": "e-1", "fence": 1} in beats[-1]["executions"]
    assert beats[-1]["memory_bytes"] > 1_000_000
    assert beats[-1]["cpu_s"] > 0


def test_a_refused_accept_starts_nothing(platform: StandIn, start: Start) -> None:
    platform.answer_registration["max_jobs"] = 0
    platform.fail("accept", 409, code="wrong_state")
    platform.run(shell="echo must not run")
    platform.run("e-2", shell="echo runs")
    agent = start()

    platform.wait_for(lambda: platform.results)

    assert set(platform.results) == {"e-2"}
    agent.process.terminate()
    assert agent.end()[0] == 0
