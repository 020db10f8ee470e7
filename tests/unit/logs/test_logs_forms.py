"""Entries in every form: whatever bytes a job writes, JSON is JSON and nothing of them is lost."""

from __future__ import annotations

import base64
import json

from hodei_agent.frames import Segment, pack, split
from hypothesis import given
from hypothesis import strategies as st

from hodei.logs import forms
from hodei.logs.chunks import Chunk, Entry
from hodei.logs.lines import BEGINNING, Lines
from hodei.logs.selection import EVERYTHING, Selection
from hodei.logs.window import Piece, cut
from hodei.storage.transaction import Row

OUTPUT = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.one_of(
            st.binary(min_size=1, max_size=40),
            st.text(min_size=1, max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
            st.sampled_from(
                [b"\n", b"\0\n", "\u2028\u0085\n".encode(), b"\xf0\x9f\x98", b"\x80\n", b"a\r\nb\n"]
            ),
        ),
    ),
    max_size=12,
)


def chunk_of(output: list[tuple[int, bytes]]) -> Chunk:
    segments = [Segment(stream, 1_700_000_000_123_456, data) for stream, data in output]
    [frame] = split(pack(1, 1, segments)[0])
    return Chunk(
        Row(
            seq=1,
            first_entry=1,
            entries=frame.entries,
            plain_size=frame.plain_size,
            codec=frame.codec,
            crc32=frame.crc32,
            data=memoryview(frame.payload),
        )
    )


def exact(shown: dict[str, object]) -> bytes:
    data = base64.b64decode(str(shown["bytes"])) if "bytes" in shown else str(shown["text"]).encode()
    return data if shown.get("partial") else data + b"\n"


@given(OUTPUT)
def test_json_has_every_byte_of_each_stream(output: list[tuple[int, bytes]]) -> None:
    document = b"".join(forms.json_array(chunk_of(output).entries(), 3))

    shown = json.loads(document)
    assert b"\n" not in document
    for number, stream in ((1, "stdout"), (2, "stderr")):
        written = b"".join(data for name, data in output if name == number)
        assert b"".join(exact(entry) for entry in shown if entry["stream"] == stream) == written
    assert [entry["seq"] for entry in shown] == list(range(1, len(shown) + 1))
    assert {entry["attempt"] for entry in shown} <= {3}


@given(OUTPUT)
def test_the_text_of_a_stream_is_its_bytes_decoded(output: list[tuple[int, bytes]]) -> None:
    names = {1: "stdout", 2: "stderr"}
    for number in names:
        pieces = [(names[stream], data) for stream, data in output if stream == number]
        written = b"".join(data for _, data in pieces)
        assert b"".join(forms.text(pieces)) == written.decode("utf-8", "replace").encode()


@given(OUTPUT, st.integers(0, 20))
def test_pieces_are_the_chunk_from_any_place_on(output: list[tuple[int, bytes]], after: int) -> None:
    chunk = chunk_of(output)
    whole = list(chunk.entries())

    parts = [piece.after(after) for piece in cut(chunk, 1) if piece.last > after]

    assert [entry for piece in parts for entry in piece.entries] == [e for e in whole if e.seq > after]
    assert b"".join(piece.events for piece in parts).count(b"\n\n") == sum(e.seq > after for e in whole)


def test_an_event_is_an_id_and_a_line_of_json() -> None:
    entry = Entry(7, "stderr", 1_700_000_000_000_001, b"a\tb\n")

    assert forms.event(entry, 2) == (
        "id: 2-7\n"
        'data: {"seq":7,"attempt":2,"stream":"stderr","at":"2023-11-14T22:13:20.000001Z","text":"a\\tb"}\n\n'
    )


def test_nothing_is_an_empty_array() -> None:
    assert b"".join(forms.json_array([], 1)) == b"[]"


def test_all_conditions_of_a_selection_must_hold() -> None:
    entry = Entry(1, "stdout", 100, "Grüße\n".encode())

    def taken(selection: Selection) -> bool:
        return list(Lines(selection, BEGINNING).of([entry])) == [entry]

    assert taken(EVERYTHING)
    assert taken(Selection(stream="stdout", since_us=100, grep="üß"))
    assert taken(Selection(grep="GRÜSSE", ignore_case=True))
    assert not taken(Selection(grep="GRÜSSE"))
    assert not taken(Selection(since_us=101))
    assert not taken(Selection(stream="stderr"))


def test_a_piece_before_which_one_begins_is_given_whole() -> None:
    piece = Piece(1, (Entry(5, "stdout", 1, b"x\n"),))

    assert piece.after(2) is piece
