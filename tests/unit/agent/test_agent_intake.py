"""From blocks to segments: the cap, what is dropped, and the times."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hodei_agent import frames, outbox
from hodei_agent.echo import Echo
from hodei_agent.frames import Segment
from hodei_agent.intake import Intake
from hodei_agent.outbox import Outbox
from hodei_agent.protocol import REMARK, STDERR, STDOUT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


class NoEcho(Echo):
    """Keeps what would be written, and has no thread."""

    def __init__(self) -> None:
        self._rest = {}
        self._changed = threading.Condition()
        self.written: dict[int, bytes] = {1: b"", 2: b""}

    def _enqueue(self, stream: int, data: bytes) -> None:
        self.written[1 if stream == STDOUT else 2] += data


def make(tmp_path: Path, *, max_bytes: int = 10**9, limit: int = 10**9) -> tuple[Intake, Outbox, NoEcho]:
    box, echo = Outbox(str(tmp_path), limit), NoEcho()
    return Intake(box, echo, max_bytes), box, echo


def sent(box: Outbox) -> list[Segment]:
    box.end()
    batches = [batch for taken in iter(lambda: box.take(10**7), []) for batch in taken]
    return [segment for batch in batches for segment in frames.segments_in(batch.plain)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=50), st.floats(0, 0.1))))
def test_each_stream_is_stored_and_echoed_whole(
    tmp_path: Path, blocks: list[tuple[int, bytes, float]]
) -> None:
    intake, box, echo = make(tmp_path)
    now = 0.0
    for stream, block, pause in blocks:
        now += pause
        intake.feed(stream, block, now)
        intake.tick(now)
    intake.finish(now)

    segments = sent(box)
    for stream in (STDOUT, STDERR):
        expected = b"".join(block for s, block, _ in blocks if s == stream)
        assert b"".join(s.data for s in segments if s.stream == stream) == expected
        assert echo.written[stream] == expected
    assert intake.bytes == sum(len(s.data) for s in segments)
    assert intake.entries == sum(frames.count_entries(s.data) for s in segments)
    assert [s.at_us for s in segments] == sorted(s.at_us for s in segments)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 100), st.integers(1, 60))
def test_a_cap_keeps_the_beginning_and_counts_the_rest(
    tmp_path: Path, output: bytes, cap: int, block: int
) -> None:
    intake, box, _ = make(tmp_path, max_bytes=cap)
    for at in range(0, len(output), block):
        intake.feed(STDOUT, output[at : at + block], 0.0)
    intake.finish(0.0)

    segments = sent(box)
    kept = b"".join(s.data for s in segments if s.stream == STDOUT)
    assert (output.startswith(kept) and cap - 4 < len(kept) <= cap) or kept == output
    assert len(kept) + intake.dropped_bytes == len(output)
    assert intake.lost_bytes == 0
    assert intake.truncated == (len(output) > cap)
    remarks = [s.data for s in segments if s.stream == REMARK]
    assert remarks == [b"[hodei: log cut at %d bytes]\n" % cap] * intake.truncated


def test_times_never_fall_when_the_clock_does(tmp_path: Path) -> None:
    box = Outbox(str(tmp_path), 10**9)
    clock = iter([500, 900, 100, 1200])
    intake = Intake(box, NoEcho(), 10**9, lambda: next(clock))
    for _ in range(4):
        intake.feed(STDOUT, b"line\n", 1.0)

    assert [s.at_us for s in sent(box)] == [500, 900, 900, 1200]


def test_output_that_finds_no_room_is_dropped_with_a_remark_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: room for half a megabyte, and nobody who takes it
    monkeypatch.setattr(outbox, "TAKING_S", 0.0)
    intake, box, echo = make(tmp_path, limit=512 * 1024)
    for _ in range(20):
        intake.feed(STDOUT, b"x" * 49_999 + b"\n", 1.0)
    # when there is room again
    box.take(10**7)
    intake.feed(STDOUT, b"after\n", 2.0)
    intake.finish(2.0)
    # then
    remark, after = sent(box)
    assert (remark.stream, after.data) == (REMARK, b"after\n")
    dropped = (intake.dropped_entries, intake.dropped_bytes)
    assert remark.data.startswith(b"[hodei: %d lines (%d bytes)" % dropped)
    assert intake.lost_bytes == intake.dropped_bytes == intake.dropped_entries * 50_000 > 0
    assert echo.written[2] == remark.data


def test_an_unfinished_line_is_echoed_only_when_it_is_whole(tmp_path: Path) -> None:
    intake, _, echo = make(tmp_path)
    intake.feed(STDOUT, b"ready? ", 1.0)
    intake.tick(2.0)
    assert echo.written[1] == b""

    intake.feed(STDOUT, b"yes\n", 3.0)

    assert echo.written[1] == b"ready? yes\n"


def test_a_secret_is_masked_in_frames_and_echo_and_is_not_counted(tmp_path: Path) -> None:
    box, echo = Outbox(str(tmp_path), 10**9), NoEcho()
    intake = Intake(box, echo, 10**9, secrets={"TOKEN": "sesame-open"})
    for block in (b"user=me token=sesa", b"me-open done\nses"):
        intake.feed(STDOUT, block, 1.0)
    intake.feed(STDERR, b"sesame-open", 1.0)
    intake.finish(1.01)

    segments = sent(box)
    out = b"".join(s.data for s in segments if s.stream == STDOUT)
    assert out == echo.written[1] == b"user=me token=*** done\nses"
    assert echo.written[2] == b"***"
    assert (intake.bytes, intake.entries) == (len(out) + 3, 3)
    assert intake.masked("The command 'sesame-open' was not found.") == "The command '***' was not found."


def test_a_held_beginning_of_a_secret_goes_with_its_line_after_50_ms(tmp_path: Path) -> None:
    box, echo = Outbox(str(tmp_path), 10**9), NoEcho()
    intake = Intake(box, echo, 10**9, secrets={"TOKEN": "sesame-open"})
    intake.feed(STDOUT, b"ses", 1.0)
    assert intake.next_at() == 1.05
    intake.tick(1.049)
    assert box.is_empty
    intake.tick(1.05)

    assert [s.data for s in sent(box)] == [b"ses"]


def test_the_cap_counts_what_is_left_after_masking(tmp_path: Path) -> None:
    box, echo = Outbox(str(tmp_path), 10**9), NoEcho()
    intake = Intake(box, echo, 8, secrets={"TOKEN": "a-long-secret-value"})
    intake.feed(STDOUT, b"a-long-secret-value 12345", 1.0)
    intake.finish(1.0)

    assert [s.data for s in sent(box)] == [b"*** 1234", b"[hodei: log cut at 8 bytes]\n"]
    assert intake.dropped_bytes == 1
