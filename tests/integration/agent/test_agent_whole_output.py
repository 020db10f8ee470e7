"""Whatever a job writes, and however often the line to the platform breaks: what is stored is what was written."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from agent_process import Agent, Start
from agent_stand_in import StandIn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SECRETS = {"TOKEN": "sesame-open-7", "LONGER": "sesame-open-7-and-more", "OTHER": "7-and-another"}
MASKED_LONGEST_FIRST = [
    b"sesame-open-7-and-another",
    *sorted((v.encode() for v in SECRETS.values()), key=len)[::-1],
]

WRITER = """
import base64, json, os, sys, time
for stream, data, times, pause_s in json.loads(sys.argv[1]):
    data = base64.b64decode(data) * times
    while data:
        data = data[os.write(stream, data):]
    if pause_s:
        time.sleep(pause_s)
"""

texts = st.text(st.sampled_from("aü€😀\0 =\n"), max_size=200).map(str.encode)
secret_texts = st.sampled_from([*SECRETS.values(), "sesame-open-7-and-another"]).map(str.encode)
pieces = st.lists(st.one_of(texts, secret_texts, st.binary(max_size=100)), max_size=6).map(b"".join)
writes = st.tuples(
    st.sampled_from([1, 2]),
    pieces,
    st.one_of(st.just(1), st.integers(1, 50), st.integers(1, 4000)),
    st.sampled_from([0, 0, 0, 0.002, 0.03, 0.07]),
)
breaks = st.lists(
    st.tuples(st.sampled_from(["before", "after", 500, 429, "away"]), st.integers(1, 3)), max_size=3
)


def masked(data: bytes) -> bytes:
    """The two values that overlap become one mark, and of two the longer one counts."""
    for value in MASKED_LONGEST_FIRST:
        data = data.replace(value, b"***")
    return data


@pytest.fixture
def agent(platform: StandIn, start: Start) -> Iterator[Agent]:
    """An agent that runs one job after the other."""
    platform.answer_registration["max_jobs"] = 0
    running = start(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # what it echoes is looked at below
    yield running
    running.process.terminate()
    assert running.end()[0] == 0


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(plan=st.lists(writes, max_size=12), breaks=breaks)
def test_what_is_stored_is_what_was_written_byte_for_byte_per_stream(
    platform: StandIn, agent: Agent, plan: list[tuple[int, bytes, int, float]], breaks: list[tuple[Any, int]]
) -> None:
    # given: a line that breaks, now and while the job runs
    execution = f"e-{len(platform.messages) + 1}"
    accepted = platform.count("accept")
    for do, times in breaks:
        if do != "away":
            platform.fail("frames", do, times=times)
    # when
    document = [
        (stream, base64.b64encode(data).decode(), times, pause) for stream, data, times, pause in plan
    ]
    platform.run(execution, argv=[sys.executable, "-S", "-c", WRITER, json.dumps(document)], secrets=SECRETS)
    if any(do == "away" for do, _ in breaks):
        platform.wait_for(lambda: platform.count("accept") > accepted)
        platform.close()
        platform.open()
    platform.wait_for(lambda: execution in platform.results, 60)
    with platform.changed:
        platform.faults.clear()
    # then
    result = platform.results[execution]
    assert (result["exit_code"], result["dropped_bytes"], result["truncated"]) == (0, 0, False)
    written = {1: b"", 2: b""}
    for stream, data, times, _ in plan:
        written[stream] += data * times
    for stream, data in written.items():
        assert platform.output(stream, execution) == masked(data)
    segments = platform.segments(execution)
    assert result["log_bytes"] == sum(len(segment.data) for segment in segments)


def test_a_secret_in_two_writes_over_both_streams_and_in_the_end_is_never_shown(
    platform: StandIn, start: Start
) -> None:
    # given
    script = """#!/usr/bin/env python3
import os, time
secret = os.environ["TOKEN"].encode()
assert len(secret) == 13
for cut in range(1, len(secret)):
    for stream in (1, 2):
        os.write(stream, b"<" + secret[:cut])
        os.write(stream, secret[cut:] + b">\\n")
    time.sleep(0.001)
os.write(1, b"x" * (65536 - 5) + secret + b"y" * 1048576 + secret)
"""
    platform.run(script=script, secrets=SECRETS)
    # when
    code, out, err = start().end()
    # then
    assert code == 0
    assert platform.results["e-1"]["exit_code"] == 0
    for data in (out, err, platform.output(1), platform.output(2)):
        assert b"sesame-open-7" not in data
    assert out == platform.output(1) and err == platform.output(2)
    assert out.endswith(b"x***" + b"y" * 1048576 + b"***")


def test_a_secret_in_what_went_wrong_is_masked(platform: StandIn, start: Start) -> None:
    platform.run(argv=["sesame-open-7", "x"], secrets=SECRETS)

    start().end()

    assert platform.results["e-1"]["error_code"] == "ERR_1001"
    assert platform.results["e-1"]["error_message"].startswith("The command '***' was not found")


def test_lines_keep_the_order_of_the_two_streams_when_there_is_time_between_them(
    platform: StandIn, start: Start
) -> None:
    # given: stdout busy enough to be looked at only now and then, and every 20 ms a line on stderr
    script = """#!/usr/bin/env python3
import os, time
for number in range(200):
    os.write(1, b"out %d\\n" % number)
    time.sleep(0.001)
    if number % 20 == 10:
        os.write(2, b"err %d\\n" % number)
        time.sleep(0.02)
"""
    platform.run(script=script)
    # when
    start().end()
    # then
    lines = b"".join(segment.data for segment in platform.segments()).split()
    numbers = [int(number) for number in lines[1::2]]
    assert sorted(numbers) == numbers
    assert len(numbers) == 210
