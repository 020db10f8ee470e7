"""The binary envelope: what is packed comes out again, and damage is noticed."""

from __future__ import annotations

import pytest
from hodei_agent import frames
from hodei_agent.frames import Segment
from hypothesis import given
from hypothesis import strategies as st

segments = st.builds(
    Segment,
    stream=st.integers(1, 3),
    at_us=st.integers(-(2**63), 2**63 - 1),
    data=st.binary(max_size=300) | st.text("ab\n", max_size=2000).map(str.encode),
    flags=st.integers(0, 1),
)


@given(st.lists(st.lists(segments, max_size=8), min_size=1, max_size=4))
def test_packed_frames_split_into_the_same_segments(rows: list[list[Segment]]) -> None:
    # given
    body, first = b"", 1
    for seq, row in enumerate(rows, start=1):
        packed, entries = frames.pack(seq, first, row)
        body += packed
        first += entries
    # when
    found = frames.split(body)
    # then
    assert [frame.seq for frame in found] == list(range(1, len(rows) + 1))
    for frame, row in zip(found, rows, strict=True):
        plain = frames.plain_payload(frame.codec, frame.payload, frame.plain_size, frame.crc32)
        assert list(frames.segments_in(plain)) == row
        assert frame.entries == sum(len(frames.entries_in(segment)) for segment in row)


@given(st.binary(max_size=500))
def test_the_number_of_entries_follows_from_the_bytes(data: bytes) -> None:
    entries = frames.entries_in(Segment(1, 0, data))

    assert len(entries) == frames.count_entries(data)
    assert b"".join(entries) == data
    assert all(entry.count(b"\n") <= 1 and entry for entry in entries)


@given(st.lists(segments, min_size=1, max_size=4), st.data())
def test_a_body_that_was_cut_is_refused(row: list[Segment], data: st.DataObject) -> None:
    packed, _ = frames.pack(1, 1, row)
    cut = data.draw(st.integers(1, len(packed) - 1))

    with pytest.raises(frames.FrameError):
        frames.split(packed[:cut])


@given(st.lists(segments, min_size=1, max_size=4), st.data())
def test_a_changed_payload_is_refused(row: list[Segment], data: st.DataObject) -> None:
    packed, _ = frames.pack(1, 1, row)
    at = data.draw(st.integers(frames.HEADER_BYTES, len(packed) - 1))
    changed = packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :]
    (frame,) = frames.split(changed)

    with pytest.raises(frames.FrameError):
        plain = frames.plain_payload(frame.codec, frame.payload, frame.plain_size, frame.crc32)
        assert plain == frames.plain_payload(*_parts(packed))  # zlib may have bytes that do not matter
        raise frames.FrameError("unharmed")


def test_a_payload_that_unpacks_to_more_than_it_says_is_refused_without_unpacking_it_all() -> None:
    import zlib

    bomb = zlib.compress(bytes(50_000_000))

    with pytest.raises(frames.FrameError):
        frames.plain_payload(frames.CODEC_ZLIB, bomb, 1000, 0)


def _parts(packed: bytes) -> tuple[int, bytes, int, int]:
    (frame,) = frames.split(packed)
    return frame.codec, frame.payload, frame.plain_size, frame.crc32


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        (Segment(4, 0, b"x"), "stream 4"),
        (Segment(1, -1, b"x"), "no time"),
        (Segment(1, frames.LAST_AT_US + 1, b"x"), "no time"),
    ],
)
def test_a_frame_that_no_reader_could_show_is_refused(segment: Segment, reason: str) -> None:
    (frame,) = frames.split(frames.pack(1, 1, [Segment(1, frames.LAST_AT_US, b"x"), segment])[0])

    with pytest.raises(frames.FrameError, match=reason) as refused:
        frames.check(frame)
    assert not isinstance(refused.value, frames.DamagedFrame)
