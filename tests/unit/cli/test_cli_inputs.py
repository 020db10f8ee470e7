from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hodei.cli import inputs
from hodei.errors import InvalidInput


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["A=1,B=2"], {"A": "1", "B": "2"}),
        (["A=1", "B=2"], {"A": "1", "B": "2"}),
        (["A=b=c"], {"A": "b=c"}),
        (["A=1,2,3"], {"A": "1,2,3"}),
        (["A=1,2,B=3"], {"A": "1,2", "B": "3"}),
        (["URL=postgres://u:p@h/d?a=b,c"], {"URL": "postgres://u:p@h/d?a=b,c"}),
        (["A="], {"A": ""}),
        (["A=,B="], {"A": "", "B": ""}),
        (["A=1", "A=2"], {"A": "2"}),
        (["A=one two\nthree"], {"A": "one two\nthree"}),
    ],
)
def test_env_keeps_values_whole_and_separates_only_before_a_name(
    typed: list[str], expected: dict[str, str]
) -> None:
    assert inputs.environment(typed) == expected


@pytest.mark.parametrize(
    ("typed", "part"), [("1A=2", "'1A'"), ("A", "'A'"), ("A-B=1", "'A-B'"), ("=1", "''"), ("", "''")]
)
def test_env_names_the_part_that_is_not_a_variable(typed: str, part: str) -> None:
    with pytest.raises(InvalidInput, match=part) as refusal:
        inputs.environment([typed])
    assert refusal.value.exit_code == 2


def test_a_secret_comes_from_the_shell_and_its_absence_is_a_mistake() -> None:
    assert inputs.secrets(["KEY"], {"KEY": "s3"}) == {"KEY": "s3"}
    with pytest.raises(InvalidInput, match="export KEY"):
        inputs.secrets(["KEY"], {})


def test_a_secret_given_on_the_command_line_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput) as refusal:
        inputs.secrets(["KEY=s3cret"], {"KEY": "x"})
    assert "s3cret" not in refusal.value.message


@pytest.mark.parametrize(
    ("typed", "seconds"), [("30", 30.0), ("0.5", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0)]
)
def test_durations_are_read_in_seconds(typed: str, seconds: float) -> None:
    assert inputs.duration_s(typed, "--timeout") == seconds


@pytest.mark.parametrize("typed", ["-1", "0", "abc", "5x", "5m!", "", "nan", "inf", "1e999"])
def test_a_duration_that_makes_no_sense_is_a_mistake(typed: str) -> None:
    with pytest.raises(InvalidInput, match="--timeout"):
        inputs.duration_s(typed, "--timeout")


def test_a_grace_of_zero_is_allowed() -> None:
    assert inputs.duration_s("0", "--grace", zero=True) == 0.0


@pytest.mark.parametrize("typed", ["512m", "1Gi", "536870912", "1.5g", "256MiB"])
def test_memory_sizes_go_to_the_server_as_typed(typed: str) -> None:
    assert inputs.memory(typed) == typed


@pytest.mark.parametrize("typed", ["lots", "-5m", "", "m"])
def test_a_memory_that_is_no_size_is_a_mistake(typed: str) -> None:
    with pytest.raises(InvalidInput, match="--memory"):
        inputs.memory(typed)


def test_labels_may_contain_commas_and_equals_signs() -> None:
    assert inputs.labels(["team=data,ml", "q=a=b"]) == {"team": "data,ml", "q": "a=b"}
    with pytest.raises(InvalidInput, match="'team'"):
        inputs.labels(["team"])


def test_a_script_is_read_from_a_file_or_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "build.sh"
    file.write_text("echo é\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"echo from stdin\n")))
    assert inputs.script(str(file)) == "echo é\n"
    assert inputs.script("-") == "echo from stdin\n"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00"])
def test_a_script_without_text_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "build.sh"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"build\.sh"):
        inputs.script(str(file))


@pytest.mark.parametrize("file", ["/dev/zero", "-"])
def test_of_a_script_without_an_end_no_more_is_read_than_the_server_takes(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/zero") as endless:
        monkeypatch.setattr("sys.stdin", endless)
        with pytest.raises(InvalidInput, match=f"^--script {file} is larger than the 1048576 bytes"):
            inputs.script(file)


def test_the_lines_of_a_script_from_windows_end_as_a_shell_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "build.sh"
    file.write_bytes(b"echo one\r\necho two\r\n")

    assert inputs.script(str(file)) == "echo one\necho two\n"


def test_a_script_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        inputs.script("/nowhere/build.sh")


def test_since_is_a_time_or_how_long_ago() -> None:
    now = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
    assert inputs.since(None, now) is None
    assert inputs.since("5m", now) == "300.000s"
    assert inputs.since("1h30m", now) == "5400.000s"
    for text in ("2026-05-01T10:00:00Z", "2026-05-01T10:00:00", "2026-05-01T12:00:00+02:00"):
        assert inputs.since(text, now) == "2026-05-01T10:00:00+00:00"
    for text in ("yesterday", "1" * 400 + "d"):
        with pytest.raises(InvalidInput, match="--since"):
            inputs.since(text, now)
