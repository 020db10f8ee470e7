"""Lines of several processes in one terminal."""

from __future__ import annotations

import io

import pytest

from hodei.embedded.prefixed import LONGEST_LINE_BYTES, LineBuffer, PrefixedOutput


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_names_are_padded_so_that_lines_align() -> None:
    target = io.StringIO()
    output = PrefixedOutput(target, ["beat", "controller"])

    output.line("beat", "tick")
    output.line("controller", "ready")

    assert target.getvalue() == "beat       | tick\ncontroller | ready\n"


def test_a_terminal_gets_a_colour_per_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    target = Terminal()

    PrefixedOutput(target, ["beat"]).line("beat", "tick")

    assert target.getvalue() == "\033[36mbeat |\033[0m tick\n"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    target = Terminal()

    PrefixedOutput(target, ["beat"]).line("beat", "tick")

    assert target.getvalue() == "beat | tick\n"


def test_a_closed_target_is_noticed_and_not_raised() -> None:
    target = io.StringIO()
    output = PrefixedOutput(target, ["beat"])
    target.close()

    output.line("beat", "tick")

    assert output.closed


def test_pieces_become_whole_lines() -> None:
    buffer = LineBuffer()

    assert buffer.feed(b"one\ntw") == ["one"]
    assert buffer.feed(b"o\r\nthr\xc3") == ["two"]
    assert buffer.feed(b"\xa9e") == []
    assert buffer.feed(b"") == ["thrée"]
    assert buffer.feed(b"") == []


def test_a_line_without_an_end_does_not_fill_memory() -> None:
    assert len(LineBuffer().feed(b"x" * (LONGEST_LINE_BYTES + 1))) == 1
