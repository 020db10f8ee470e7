"""What a job hands on: every form of the file, and every trouble with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hodei_agent import outputs


def test_lines_are_pairs_and_values_of_many_lines_end_at_their_word() -> None:
    text = "a=1\n\nb = no\nlong<<END\none\n\n two=2\nEND\nc=x=y\r\nempty=\n_d-e=ü\na=2"

    found = outputs.parse(text)

    assert found.values == {"a": "2", "long": "one\n\n two=2", "c": "x=y", "empty": "", "_d-e": "ü"}
    assert found.problem == "Line 3 of its outputs is not KEY=VALUE."


@pytest.mark.parametrize(
    ("text", "values", "problem"),
    [
        ("", {}, None),
        ("a=1\nb<<END\nx\n", {"a": "1"}, "Line 2 of its outputs has no line END that ends it."),
        ("1a=1\nok=1", {"ok": "1"}, "Line 1 of its outputs is not KEY=VALUE."),
        ("a=\0\nok=1", {"ok": "1"}, "The output a has a NUL character in it."),
        ("e<<E\nE", {"e": ""}, None),
        ("x" * 101 + "=1", {}, "Line 1 of its outputs is not KEY=VALUE."),
    ],
)
def test_what_cannot_be_read_is_said_and_the_rest_is_taken(
    text: str, values: dict[str, str], problem: str | None
) -> None:
    assert outputs.parse(text) == outputs.Outputs(values, problem)


def test_a_file_that_is_too_large_gives_nothing_and_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "output"
    outputs.create(str(path))
    assert outputs.read(str(path)) == ({}, None)
    assert path.stat().st_mode & 0o777 == 0o600

    path.write_bytes(b"a=" + b"x" * (outputs.LIMIT_BYTES - 2))
    assert len(outputs.read(str(path)).values["a"]) == outputs.LIMIT_BYTES - 2
    path.write_bytes(b"a=" + b"x" * (outputs.LIMIT_BYTES - 1))
    assert outputs.read(str(path)) == ({}, "Its outputs are more than 65536 bytes, so none were taken.")


def test_a_link_a_pipe_and_a_folder_in_its_place_are_not_followed_or_waited_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a=stolen")
    path = tmp_path / "output"
    path.symlink_to(secret)
    assert outputs.read(str(path)).values == {} and outputs.read(str(path)).problem

    path.unlink()
    os.mkfifo(path)
    assert outputs.read(str(path)) == ({}, "What $HODEI_OUTPUT names is not a file any more.")
    path.unlink()
    path.mkdir()
    assert outputs.read(str(path)).problem
    path.rmdir()
    assert outputs.read(str(path)) == ({}, None)


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "output"
    path.write_bytes(b"a=\xff!\n")

    assert outputs.read(str(path)).values == {"a": "\N{REPLACEMENT CHARACTER}!"}
