"""An agent as a process of its own, for the tests to start and to wait for."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

AGENT = Path(__file__).parents[3] / "workers" / "hodei_agent"
NOBODY = 65534


class Agent:
    """A running agent; `end` waits for it and gives its exit code, stdout and stderr."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def end(self, timeout_s: float = 20.0) -> tuple[int, bytes, bytes]:
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err


Start = Callable[..., Agent]
