"""Secrets never leave the agent: in whatever pieces they are written, whatever they share with each other."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from hodei_agent import needles as needles_module
from hodei_agent.masking import HOLD_SECRET_S, Mask, StreamMask, forms
from hodei_agent.needles import Needles
from hypothesis import given
from hypothesis import strategies as st

PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0\nBAQEFAASCBKcw\n-----END KEY-----\n"

values = st.lists(st.text("ab", min_size=4, max_size=9).map(str.encode), min_size=1, max_size=5)
outputs = st.lists(st.text("abc\n", max_size=30).map(str.encode), max_size=12)


def reference(data: bytes, values: list[bytes]) -> bytes:
    """What masking means, done slowly: all places of all values, those that overlap as one."""
    places = sorted(
        (at, at + len(value)) for value in values for at in range(len(data)) if data.startswith(value, at)
    )
    out, end = b"", 0
    for start, stop in places:
        if start >= end:
            out += data[end:start] + b"***"
        end = max(end, stop)
    return out + data[end:]


def masked(mask: StreamMask | None, *blocks: bytes) -> bytes:
    assert mask is not None
    return b"".join(mask.feed(block, 0.0) for block in blocks) + mask.finish()


@given(values, outputs, st.booleans())
def test_output_in_any_pieces_is_masked_as_if_it_came_at_once(
    values: list[bytes], blocks: list[bytes], many: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(needles_module, "FEW", 0 if many else 100)
        found = masked(StreamMask(Needles(values)), *blocks)

    assert found == reference(b"".join(blocks), values)


@given(values, outputs)
def test_no_more_is_held_back_than_the_longest_value_less_a_byte(
    values: list[bytes], blocks: list[bytes]
) -> None:
    mask, given_out, seen = StreamMask(Needles(values)), b"", b""
    for block in blocks:
        seen += block
        given_out += mask.feed(block, 0.0)
        # what is out already is the whole masked output, but for a rest that may become a value
        assert reference(seen, values).startswith(given_out)
        missing = len(reference(seen, values)) - len(given_out)
        assert missing < max(map(len, values))
        assert missing == 0 or mask.due_at() == HOLD_SECRET_S


@given(values, outputs, st.lists(st.booleans(), max_size=12))
def test_with_pauses_no_value_is_ever_shown_whole(
    values: list[bytes], blocks: list[bytes], pauses: list[bool]
) -> None:
    mask, out, now = StreamMask(Needles(values)), b"", 0.0
    for block, pause in zip(blocks, pauses + [False] * len(blocks), strict=False):
        out += mask.feed(block, now)
        if pause:
            now += HOLD_SECRET_S
            out += mask.release(now)[0]
            assert mask.due_at() is None
    out += mask.finish()

    assert not any(value in out for value in values)
    if not any(pauses[: len(blocks)]):
        assert out == reference(b"".join(blocks), values)


def test_a_beginning_that_stays_one_is_shown_after_50_ms_and_the_rest_is_masked() -> None:
    mask = Mask({"S": "correct-horse"}).stream()
    assert mask is not None

    assert mask.feed(b"say: corre", 10.0) == b"say: "
    assert mask.due_at() == 10.05
    assert mask.release(10.04) == (b"", 10.04)
    assert mask.release(10.05) == (b"corre", 10.0)
    assert mask.feed(b"ct-horse!", 11.0) == b"***!"


def test_without_secrets_there_is_no_filter_at_all() -> None:
    assert Mask({}).stream() is None
    assert Mask(None).text("as it is") == "as it is"
    assert Mask({"SHORT": "abc", "NUMBER": 1}).stream() is None


def test_a_value_with_several_lines_is_masked_whole_and_line_by_line() -> None:
    mask = Mask({"KEY": PEM})

    assert masked(mask.stream(), b"key:\n", PEM.encode(), b"done\n") == b"key:\n***\ndone\n"
    for line in ("-----BEGIN KEY-----", "MIIEvQIBADANBgkqh", "BAQEFAASCBKcw"):
        assert masked(mask.stream(), b"> %s\r\n" % line.encode()) == b"> ***\r\n"
    assert masked(mask.stream(), b"kiG9w0\n") == b"kiG9w0\n"  # six characters: any word may be that short


@pytest.mark.parametrize("before", [b"", b"a", b"ab"])
def test_what_base64_makes_of_a_value_is_masked_at_each_of_its_places(before: bytes) -> None:
    value = "s3cr3t?v\u00e4lue~~"
    encoded = base64.b64encode(before + value.encode() + b":tail")

    shown = masked(Mask({"S": value}).stream(), encoded)

    # at most one character at either end still says a little of the value
    of_the_value = len(value.encode()) * 8 // 6
    assert shown.count(b"***") == 1
    assert len(encoded) - (len(shown) - 3) >= of_the_value - 2


def test_a_value_in_a_url_or_in_json_is_masked() -> None:
    value = 'p"ss/w\u00f6rd\n&more'
    mask = Mask({"S": value})

    assert masked(mask.stream(), b"?q=" + urllib.parse.quote(value, safe="").encode()) == b"?q=***"
    for ascii_alone in (True, False):
        document = json.dumps({"k": value}, ensure_ascii=ascii_alone).encode()
        assert masked(mask.stream(), document) == b'{"k": "***"}'


def test_a_text_is_masked_also_when_it_holds_what_is_no_character() -> None:
    assert Mask({"S": "hunter22"}).text("The command 'hunter22\udcff' was not found.") == (
        "The command '***\udcff' was not found."
    )


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    assert masked(Mask({"S": "  hunter22\n"}).stream(), b"hunter22\n") == b"***\n"
    assert b"    " in forms({"S": "    "})


@given(st.lists(st.binary(min_size=4, max_size=40), min_size=40, max_size=80), st.data())
def test_of_many_values_each_is_found(values: list[bytes], data: st.DataObject) -> None:
    around = data.draw(st.binary(max_size=50))
    chosen = data.draw(st.sampled_from(values))
    output = around + chosen + around

    assert masked(StreamMask(Needles(values)), output) == reference(output, values)
