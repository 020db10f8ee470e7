"""The note by which the command line finds `hodei dev`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hodei.embedded import state_file


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_what_was_written_is_read_while_its_process_lives() -> None:
    state_file.write("http://127.0.0.1:9000", token="secret")

    assert state_file.read() == state_file.State(url="http://127.0.0.1:9000", pid=os.getpid(), token="secret")


def test_only_the_owner_can_read_it() -> None:
    state_file.write("http://127.0.0.1:9000")

    assert state_file.path().stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in state_file.path().parent.iterdir()] == ["dev.json"]


def test_a_note_of_a_dead_process_is_not_believed() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        state_file.write("http://127.0.0.1:9000", pid=process.pid)
        assert state_file.read() is not None

        process.kill()

    assert state_file.read() is None


def test_a_note_of_an_earlier_process_with_the_same_pid_is_not_believed() -> None:
    state_file.write("http://127.0.0.1:9000")
    noted = json.loads(state_file.path().read_text())
    state_file.path().write_text(json.dumps(noted | {"started": "1"}))

    assert state_file.read() is None


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"pid": "x", "started": "1"}'])
def test_a_damaged_note_is_as_none(content: str) -> None:
    state_file.write("http://127.0.0.1:9000")
    state_file.path().write_text(content)

    assert state_file.read() is None
    state_file.remove()


def test_removing_leaves_the_note_of_another_process_alone() -> None:
    state_file.write("http://127.0.0.1:9000", pid=1)
    state_file.remove()
    assert state_file.path().exists()

    state_file.remove(pid=1)
    state_file.remove(pid=1)
    assert not state_file.path().exists()


def test_without_xdg_state_home_it_is_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert state_file.path() == tmp_path / ".local/state/hodei/dev.json"


def test_it_imports_nothing_heavy() -> None:
    heavy = "{'subprocess', 'psycopg2', 'typer', 'pydantic', 'hodei.embedded.services'}"
    program = f"import sys, hodei.embedded.state_file; print({heavy} & set(sys.modules))"

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "set()"
