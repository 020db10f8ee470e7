from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from hodei.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]
QUICK_S = 0.3


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the program with its path."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from commands(child, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(main.app)))


def test_the_commands_are_those_of_this_version() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        *("job run", "job get", "job list", "job logs", "job events", "job why", "job wait"),
        *("job cancel", "job retry"),
        *(f"schedule {verb}" for verb in ("create", "list", "next", "pause", "resume", "trigger", "delete")),
        *(
            f"pipeline {verb}"
            for verb in (
                "create",
                "update",
                "delete",
                "list",
                "show",
                "run",
                "runs",
                "status",
                "cancel",
                "resume",
                "schema",
            )
        ),
        *(f"provider {verb}" for verb in ("list", "health", "enable", "disable")),
        *(f"worker {verb}" for verb in ("list", "register", "drain", "stop")),
        *("saga list", "saga show", "status"),
        *(
            "serve",
            "controller",
            "beat",
            "flower",
            "embedded",
            "db upgrade",
            "db check",
            "db psql",
            "dev",
            "demo",
            "stop",
        ),
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_that_calls_it(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    assert f"hodei {' '.join(path)}" in command.epilog


def test_help_is_quick(hodei: Run) -> None:
    def took() -> float:
        started = time.perf_counter()
        assert hodei("--help").returncode == 0
        return time.perf_counter() - started

    assert min(took() for _ in range(5)) < QUICK_S


def test_nothing_heavy_is_imported_for_help() -> None:
    code = (
        "import sys, hodei.cli.main as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'httpx', 'pydantic', 'celery', 'flask', 'sqlalchemy', 'kubernetes', 'docker'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("path", [("--help",), ("job", "--help"), ("job", "run", "--help"), ("db", "--help")])
def test_help_is_there_at_each_level(hodei: Run, path: tuple[str, ...]) -> None:
    done = hodei(*path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage:" in done.stdout


def test_the_version_is_one_line(hodei: Run) -> None:
    done = hodei("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("hodei ")


@pytest.mark.parametrize("arguments", [(), ("job",), ("jbo",), ("job", "rnu"), ("serve", "everything")])
def test_a_call_that_is_not_understood_is_exit_code_2(hodei: Run, arguments: tuple[str, ...]) -> None:
    done = hodei(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage:" in done.stderr
