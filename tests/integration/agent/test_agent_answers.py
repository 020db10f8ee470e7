"""Answers that were not hoped for: of proxies, login pages and firewalls, refusals, and nonsense. No job is stuck."""

from __future__ import annotations

import pytest
from agent_process import Start
from agent_stand_in import StandIn
from support.process_tree import with_text

ROUTES = ["register", "inbox", "accept", "started", "frames", "result", "goodbye", "heartbeat"]


@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 403, 404, 409, 413])
def test_what_something_else_on_the_way_says_is_no_answer(
    platform: StandIn, start: Start, status: int
) -> None:
    # given a proxy without its upstream, a login page, a firewall: all with documents of their own
    for route in ROUTES:
        platform.fail(route, status, times=2, code="")
    platform.run(shell="for i in 1 2 3; do echo $i; sleep 0.1; done")
    # when
    code, out, err = start().end()
    # then
    assert (code, out, err) == (0, b"1\n2\n3\n", b"")
    assert platform.output(1) == out
    assert platform.results["e-1"]["exit_code"] == 0


@pytest.mark.parametrize("status", [403, 426])
def test_who_has_a_session_waits_for_a_platform_that_lets_nobody_in_for_a_moment(
    platform: StandIn, start: Start, status: int
) -> None:
    for route in ROUTES[1:]:
        platform.fail(route, status, times=2)
    platform.run(shell="echo a; sleep 0.2; echo b")

    assert start().end()[:2] == (0, b"a\nb\n")

    assert platform.output(1) == b"a\nb\n"
    assert platform.results["e-1"]["exit_code"] == 0


def test_a_log_that_is_refused_while_the_job_runs_costs_no_result(platform: StandIn, start: Start) -> None:
    # given
    platform.gets_whole_log = False
    platform.fail("frames", 422)
    platform.run(
        shell="echo one; sleep 0.5; for i in 2 3 4; do echo $i; sleep 0.1; done; exit 7", grace_s=0.1
    )
    # when
    code = start().end()[0]
    # then it says that its log is not whole: one frame was sent, and three lines never were
    assert code == 0
    result = platform.results["e-1"]
    assert (result["outcome"], result["exit_code"], result["last_frame"]) == ("exited", 7, 1)
    assert (result["dropped_entries"], result["lost_bytes"]) == (3, 6)
    assert platform.frames == {}


def test_a_platform_that_lost_what_it_had_acknowledged_gets_the_rest_and_the_log_says_what_is_missing(
    platform: StandIn, start: Start
) -> None:
    # given a job that writes on while another database takes over, which has not heard of its last frames
    platform.run(shell="for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.2; done")
    agent = start()
    platform.wait_for(lambda: b"line 3\n" in platform.output(1))

    # when
    with platform.changed:
        stored = platform.frames["e-1"]
        kept = min(seq for seq, frame in stored.items() if b"line 2" in frame.payload) - 1
        for seq in [seq for seq in stored if seq > kept]:
            del stored[seq]
    assert agent.end()[0] == 0

    # then
    lines = [f"line {i}\n".encode() for i in range(1, 9)]
    assert platform.output(1) in (b"".join(lines[:1] + lines[n:]) for n in (3, 4))
    lost = 8 - platform.output(1).count(b"\n")
    said = f"[hodei: {lost} lines ({7 * lost} bytes) were lost here, the platform did not keep them]\n"
    assert platform.output(3) == said.encode()
    result = platform.results["e-1"]
    assert (result["dropped_entries"], result["lost_bytes"]) == (lost, 7 * lost)


def test_frames_that_are_never_taken_cost_no_result(platform: StandIn, start: Start) -> None:
    # given a platform that has room for nothing of this log, and says so by what it acknowledges
    platform.takes_frames = False
    platform.run(shell="echo one; echo two; exit 3")
    # when
    assert start().end(60)[0] == 0
    # then
    result = platform.results["e-1"]
    assert (result["exit_code"], result["last_frame"]) == (3, 0)
    assert (result["dropped_entries"], result["lost_bytes"]) == (2, 8)


def test_a_refused_start_costs_neither_log_nor_result(platform: StandIn, start: Start) -> None:
    platform.fail("started", 422)
    platform.run(shell="echo one; sleep 0.3; echo two")

    assert start().end()[0] == 0

    assert platform.output(1) == b"one\ntwo\n"
    assert platform.results["e-1"]["exit_code"] == 0


def test_a_result_that_is_refused_is_sent_without_what_can_be_left_out(
    platform: StandIn, start: Start
) -> None:
    platform.fail("result", 422)
    platform.run(shell="echo one; echo answer=42 >> $HODEI_OUTPUT; exit 3")

    assert start().end()[0] == 0

    assert platform.results["e-1"]["exit_code"] == 3
    assert "outputs" not in platform.results["e-1"]


@pytest.mark.parametrize("route", ["inbox", "frames", "heartbeat"])
def test_an_agent_that_understands_an_answer_wrongly_leaves_no_job_behind(
    platform: StandIn, start: Start, route: str
) -> None:
    platform.fail(route, "nonsense", times=10)
    platform.run("e-nonsense", shell="echo up; exec sleep 1000")

    assert start().end()[0] == 5
    assert with_text("HODEI_EXECUTION_ID=e-nonsense") == []


def test_a_message_of_any_length_is_no_obstacle_to_a_result(platform: StandIn, start: Start) -> None:
    platform.run(shell=None, argv=["no-such-" + "x" * 9000])

    assert start().end()[0] == 0

    result = platform.results["e-1"]
    assert result["outcome"] == "not_started"
    assert "no-such-xxx" in result["error_message"] and len(result["error_message"]) < 5000


@pytest.mark.parametrize("says_413", [True, False])
def test_a_proxy_that_lets_less_through_than_the_platform_gets_smaller_calls(
    platform: StandIn, start: Start, says_413: bool
) -> None:
    # given a megabyte per call, as nginx has it; and more that waits than that, because the platform was away
    platform.largest_body, platform.says_413 = 1024 * 1024, says_413
    platform.fail("frames", 503, times=4)
    platform.run(shell="head -c 12000000 /dev/urandom | base64; echo done")
    # when
    agent = start()
    # then
    assert agent.end(60)[0] == 0
    assert platform.output(1).endswith(b"done\n") and len(platform.output(1)) > 16_000_000
    assert platform.results["e-1"]["dropped_bytes"] == 0
    # and one that says so is hardly tried again
    assert 1 <= platform.too_large <= (2 if says_413 else 60)


def test_a_proxy_that_lets_no_frame_through_costs_the_log_and_not_the_result(
    platform: StandIn, start: Start
) -> None:
    platform.gets_whole_log, platform.largest_body = False, 2000
    platform.run(shell="head -c 100000 /dev/urandom; exit 4")

    assert start().end(90)[0] == 0

    assert platform.results["e-1"]["exit_code"] == 4
    assert platform.results["e-1"]["last_frame"] > 0 and platform.frames == {}
