"""Where output may be cut."""

from __future__ import annotations

from hodei_agent.frames import SEGMENT_SPLIT_LINE
from hodei_agent.lines import LineCutter, Piece, unfinished_character
from hodei_agent.protocol import MAX_LINE_BYTES
from hypothesis import given, settings
from hypothesis import strategies as st


def data_of(pieces: list[Piece]) -> list[bytes]:
    return [piece.data for piece in pieces]


@given(st.lists(st.tuples(st.binary(max_size=40) | st.text(max_size=20).map(str.encode), st.floats(0, 0.1))))
def test_the_pieces_together_are_what_was_fed(blocks: list[tuple[bytes, float]]) -> None:
    cutter, now, out = LineCutter(), 0.0, b""
    for block, pause in blocks:
        now += pause
        out += b"".join(data_of(cutter.feed(block, now) + cutter.release(now)))
    out += b"".join(data_of(cutter.finish()))

    assert out == b"".join(block for block, _ in blocks)


@given(st.text(st.sampled_from("aü€😀\n"), max_size=200), st.lists(st.integers(1, 9), min_size=1))
def test_no_piece_of_a_text_ends_inside_a_character(text: str, sizes: list[int]) -> None:
    # given: the text in blocks that know nothing of characters, with a pause after each
    cutter, data, now, at, pieces = LineCutter(), text.encode(), 0.0, 0, []
    while at < len(data):
        size = sizes[at % len(sizes)]
        now += 0.06
        pieces += cutter.feed(data[at : at + size], now) + cutter.release(now + 0.051)
        at += size
    pieces += cutter.finish()
    # then
    assert "".join(piece.data.decode() for piece in pieces) == text


@settings(deadline=None)  # two hundred thousand pieces of a byte take their time on a busy machine
@given(
    st.integers(0, 3 * MAX_LINE_BYTES), st.sampled_from(["x", "ü", "€", "x\n", "😀"]), st.integers(1, 200_000)
)
def test_no_piece_is_longer_than_64_kib_or_cut_in_a_character(size: int, unit: str, block: int) -> None:
    cutter, data, pieces = LineCutter(), unit.encode() * (size // len(unit.encode())), []
    for at in range(0, len(data), block):
        pieces += cutter.feed(data[at : at + block], 0.0)
    pieces += cutter.finish()

    assert b"".join(data_of(pieces)) == data
    for piece in pieces:
        assert len(piece.data) <= MAX_LINE_BYTES
        piece.data.decode()
        assert bool(piece.flags & SEGMENT_SPLIT_LINE) <= (b"\n" not in piece.data)


def test_whole_lines_go_at_once_and_the_rest_waits_50_ms() -> None:
    cutter = LineCutter()

    assert data_of(cutter.feed(b"one\ntwo\nthr", 10.0)) == [b"one\ntwo\n"]
    assert cutter.due_at() == 10.05
    assert cutter.release(10.04) == []
    assert data_of(cutter.release(10.05)) == [b"thr"]
    assert cutter.due_at() is None
    assert data_of(cutter.feed(b"ee\n", 11.0)) == [b"ee\n"]


def test_a_character_that_never_gets_whole_goes_after_a_second() -> None:
    cutter = LineCutter()
    cutter.feed(b"a\xe2\x82", 10.0)

    assert data_of(cutter.release(10.05)) == [b"a"]
    assert cutter.release(10.9) == []
    assert data_of(cutter.release(11.0)) == [b"\xe2\x82"]


@given(st.text(max_size=5), st.characters())
def test_an_unfinished_character_is_recognised(before: str, character: str) -> None:
    try:
        encoded = character.encode()
    except UnicodeEncodeError:
        return
    for cut in range(len(encoded)):
        assert unfinished_character(before.encode("utf-8", "replace") + encoded[:cut]) == cut
    assert unfinished_character(encoded) == 0


def test_bytes_that_cannot_become_a_character_are_not_held() -> None:
    assert unfinished_character(b"\x80\x80\x80\x80") == 0
    assert unfinished_character(b"\xff") == 0
    assert unfinished_character(b"") == 0
