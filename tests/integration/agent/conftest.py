"""The real agent, as a process of its own, against a stand-in of the platform."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_process import AGENT, NOBODY, Agent, Start
from agent_stand_in import TOKEN, WORKER_ID, StandIn


@pytest.fixture
def platform() -> Iterator[StandIn]:
    """A platform that listens."""
    stand_in = StandIn()
    stand_in.open()
    yield stand_in
    stand_in.close()


@pytest.fixture(scope="session")
def open_agent() -> Iterator[Path]:
    """The agent where every user may read it; a checkout may be in a folder that is closed to others."""
    with tempfile.TemporaryDirectory(prefix="hodei-agent-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o1777)  # where agents keep what a killed one leaves
        yield shutil.copytree(AGENT, folder / AGENT.name, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def start(platform: StandIn, open_agent: Path) -> Iterator[Start]:
    """Starts an agent for the platform; what is left of it afterwards is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        *,
        command: list[str] | None = None,
        user: int | None = None,
        env: dict[str, str] | None = None,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> Agent:
        words = command or [os.environ.get("AGENT_PYTHON", sys.executable), "-I", "-S", "-B", str(AGENT)]
        process = subprocess.Popen(
            [str(open_agent) if word == str(AGENT) else word for word in words],
            env={
                "PATH": os.environ["PATH"],
                "TMPDIR": str(open_agent.parent / "tmp"),
                "HODEI_SERVER": f"http://127.0.0.1:{platform.port}",
                "HODEI_TOKEN": TOKEN,
                "HODEI_WORKER_ID": WORKER_ID,
                "INHERITED": "must not be seen",
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        started.append(process)
        return Agent(process)

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def nobodys_python() -> str:
    """A Python that a user without rights can start; needs root to become that user."""
    if os.getuid() != 0:
        pytest.skip("only root can start the agent as another user")
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            subprocess.run([candidate, "-V"], user=NOBODY, group=NOBODY, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("no Python here that another user may start")
