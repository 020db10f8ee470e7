from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STAND_IN = Path(__file__).with_name("server_stand_in.py")
SLOWEST_START_S = 20.0


@dataclass
class Served:
    """A server process that answers."""

    process: subprocess.Popen[bytes]
    urls: dict[str, Any]
    errors: Path

    def url(self, service: str) -> str:
        return self.urls[service]

    def port(self, service: str) -> int:
        return int(self.urls[service].rpartition(":")[2])


Serve = Callable[..., Served]


def environment(**variables: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
    ports = {f"HODEI_{name}_PORT": "0" for name in ("ORCHESTRATOR", "SCHEDULER", "WORKER_MANAGER")}
    return clean | ports | variables


@pytest.fixture(name="environment")
def environment_with() -> Callable[..., dict[str, str]]:
    """An environment with free ports and no other settings than those given."""
    return environment


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-W", "error", str(STAND_IN)]


@pytest.fixture
def serve(tmp_path: Path, command: list[str]) -> Iterator[Serve]:
    """Starts services in a process of their own and waits until they answer."""
    started: list[subprocess.Popen[bytes]] = []

    def start(services: str, *agent_hosts: str, **variables: str) -> Served:
        ready, errors = tmp_path / f"ready-{len(started)}.json", tmp_path / f"errors-{len(started)}"
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, str(ready), services, *agent_hosts], stderr=stderr, env=environment(**variables)
            )
        started.append(process)
        give_up = time.monotonic() + SLOWEST_START_S
        while not ready.exists():
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < give_up, errors.read_text()
            time.sleep(0.01)
        return Served(process, json.loads(ready.read_text()), errors)

    yield start
    for process in started:
        process.kill()
        process.wait()
