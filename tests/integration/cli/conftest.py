from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from platform_stand_in import StandIn


@pytest.fixture
def platform() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.stop()


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """An environment without settings and without a noted `hodei dev`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HODEI_", "XDG_"))}
    own = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "80"}
    return clean | own | {"HODEI_PATIENCE": "0"}


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hodei(platform: StandIn, surroundings: dict[str, str]) -> Run:
    """Runs the program against the stand-in as a shell would."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "hodei.cli.main", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=surroundings | {"HODEI_URL": platform.url} | variables,
            check=False,
        )

    return run


@pytest.fixture
def start_hodei(
    platform: StandIn, surroundings: dict[str, str]
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the program and leaves it running."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "hodei.cli.main", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=surroundings | {"HODEI_URL": platform.url},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
