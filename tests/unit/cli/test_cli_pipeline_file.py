"""A pipeline's file: read as it is meant, and every mistake with its line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hodei.cli import pipeline_file
from hodei.cli.pipeline_file import PipelineFile
from hodei.errors import InvalidInput

FILE = """\
name: release
params:
  version: {default: 1.10}
max_parallel: 2
jobs:
  - key: on
    command: |
      echo one
      echo two
    needs: [yes, 2]
    timeout_s: 30
    cpu: 0.5
    retry_on: [1, 2]
    env: {A: 1.0, B: yes, C: null, D: 'x: y', E: "", F: 0o17}
    args: -v 3.10
    matrix:
      python: [3.10, 3.9]
      include: [{python: 3.11}]
  - {key: b, memory: 512, script: "x", labels: {n: 007}}
"""


def test_a_text_is_what_is_written_wherever_a_text_is_meant_and_numbers_are_numbers() -> None:
    document = PipelineFile("p.yaml", FILE).document

    first, second = document["jobs"]
    assert document["params"] == {"version": {"default": "1.10"}} and document["max_parallel"] == 2
    assert (first["key"], first["needs"], first["args"]) == ("on", ["yes", "2"], "-v 3.10")
    assert (first["timeout_s"], first["cpu"], first["retry_on"]) == (30, 0.5, [1, 2])
    assert first["env"] == {"A": "1.0", "B": "yes", "C": None, "D": "x: y", "E": "", "F": "0o17"}
    assert first["matrix"] == {"python": ["3.10", "3.9"], "include": [{"python": "3.11"}]}
    assert first["command"] == "echo one\necho two\n"
    assert second == {"key": "b", "memory": "512", "script": "x", "labels": {"n": "007"}}


@pytest.mark.parametrize(
    ("field", "line"),
    [
        (None, 1), ("name", 1), ("jobs.0.needs.1", 10), ("jobs.0.matrix.python.0", 17), ("jobs.0.matrix.nothing", 16),
        ("jobs.1", 19), ("jobs.1.memory", 19), ("jobs.1.command", 19), ("jobs", 5), ("unheard of", 1),
    ],
)  # fmt: skip
def test_a_field_is_found_in_its_line_or_in_that_of_what_is_around_it(field: str | None, line: int) -> None:
    file = PipelineFile("p.yaml", FILE)

    assert file.line_of(field) == line
    assert file.refused("Wrong.", field).message.startswith(f"p.yaml:{line}:")


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("name: x\njobs:\n  - key: a\n   command: b\n", 4, "this is not YAML"),
        ("name: x\nname: y\n", 2, "name is there twice"),
        ("name: x\njobs: [\n", 3, "this is not YAML"),
        ("name: 'x\n", 2, "this is not YAML"),
        ("- a\n", 1, "a pipeline is a mapping"),
        ("", 1, "a pipeline is a mapping"),
        ("name: x\n[a]: b\n", 2, "a key must be a text"),
        ("a: *b\n", 1, "undefined alias"),
        ("name: x\nb: \x07\n", 2, "a character that YAML does not allow"),
        ("name: x\n---\nname: y\n", 2, "this is not YAML"),
        ("a: &a [*a]\n", 1, "nested more than 50 deep"),
        ("name: x\njobs: " + "[" * 900 + "]" * 900, 2, "nested more than 50 deep"),
        (
            "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 60)),
            11,
            "nested more than 50 deep",
        ),
        ('name: x\nb: {c: "\\ud800"}\n', 2, "half of a surrogate pair is no character"),
        ('name: x\nb: "\\UFFFFFFFF"\n', 2, "an escape or a version that YAML does not have"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line(text: str, line: int, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=f"^p.yaml:{line}: .*({sentence})"):
        PipelineFile("p.yaml", text)


def test_aliases_that_are_in_each_other_do_not_fill_the_memory() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 5))
    long = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 20)}]\n"

    for bomb in (text, long):
        with pytest.raises(
            InvalidInput, match=r"^p\.yaml:\d: .* its aliases followed, than 100000 values or 1048576"
        ):
            PipelineFile("p.yaml", bomb)


@pytest.mark.parametrize(
    "written",
    [
        "2026-13-45",
        "2026-01-02",
        "0x_",
        "9" * 5000,
        "0x" + "f" * 5000,
        ".nan",
        "-.inf",
        "1.0e+999",
        "!!int x",
    ],
)
def test_what_no_number_of_json_can_be_is_left_to_the_server_as_a_text(written: str) -> None:
    [job] = PipelineFile("p.yaml", f"jobs: [{{timeout_s: {written}}}]\n").document["jobs"]

    assert job == {"timeout_s": written.removeprefix("!!int ")}


def test_numbers_and_answers_are_read_as_yaml_has_them() -> None:
    text = "a: [0x1F, 1_000, 1:30, 1.5e+3, yes, off, -7, 1e3]\n"

    assert PipelineFile("p.yaml", text).document["a"] == [31, 1000, 90, 1500.0, True, False, -7, "1e3"]


def test_secrets_that_are_named_come_from_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "name: x\njobs:\n  - key: a\n    command: x\n    secret_env: [TOKEN]\n"
    with pytest.raises(InvalidInput, match=r"^p\.yaml:5: secret_env TOKEN: there is no such variable"):
        PipelineFile("p.yaml", text)

    monkeypatch.setenv("TOKEN", "of the shell")
    assert PipelineFile("p.yaml", text).document["jobs"][0]["secret_env"] == {"TOKEN": "of the shell"}


def test_a_file_that_is_not_there_or_no_text_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        pipeline_file.read(str(tmp_path / "none.yaml"))
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"name: x\ndescription: \xff\n")
    with pytest.raises(InvalidInput, match=":2: there are bytes that are not UTF-8"):
        pipeline_file.read(str(bad))
    with pytest.raises(InvalidInput, match=r"^/dev/zero is larger than the 1048576 bytes"):
        pipeline_file.read("/dev/zero")
    marked = tmp_path / "marked.yaml"
    marked.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert pipeline_file.read(str(marked)).document == {"name": "x"}


def test_stdin_is_read_as_a_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    given("\ufeffname: é\n".encode())
    assert pipeline_file.read("-").document == {"name": "é"}
    given(b"name: x\ndescription: \xff\n")
    with pytest.raises(InvalidInput, match=r"^stdin:2: there are bytes that are not UTF-8"):
        pipeline_file.read("-")
    given(b"#" * 1_048_577)
    with pytest.raises(InvalidInput, match=r"^stdin is larger than the 1048576 bytes"):
        pipeline_file.read("-")
