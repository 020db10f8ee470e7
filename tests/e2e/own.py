"""A system of the procedure's own: ``hodei dev`` with its data in a folder that goes with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from e2e.ledger import Off
from e2e.system import PROGRAMS, System
from hodei.embedded.ports import port_holder
from hodei.embedded.whole import wait_until_ready

PORTS = {
    "HODEI_ORCHESTRATOR_PORT": 8080,
    "HODEI_SCHEDULER_PORT": 8081,
    "HODEI_WORKER_MANAGER_PORT": 8082,
    "HODEI_FLOWER_PORT": 5555,
}
READY_WITHIN_S = 90.0
STOPPED_WITHIN_S = 20.0


def ports(variables: Mapping[str, str]) -> dict[str, int]:
    """The setting of each port, and what it is."""
    return {name: int(variables.get(name) or port) for name, port in PORTS.items()}


def check_ports(variables: Mapping[str, str]) -> str:
    """All of them free; Off names who holds one, and what to do."""
    taken = [
        f"{holder} If that is a Hodei platform to be looked at, say so with HODEI_URL; else choose another port with {name}."
        for name, port in ports(variables).items()
        if (holder := port_holder(port))
    ]
    if taken:
        raise Off("\n".join(taken))
    return f"{', '.join(map(str, ports(variables).values()))} are free"


class OwnSystem:
    """Start it, and stop it in any case: nothing of it is left then."""

    def __init__(self, variables: Mapping[str, str], image: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hodei-e2e-", dir="/tmp"))
        self.folder.chmod(0o711)  # the embedded servers' user passes through it
        self.log = self.folder / "dev.log"
        port = ports(variables)["HODEI_ORCHESTRATOR_PORT"]
        own = {
            "HODEI_DATA_DIR": str(self.folder / "data"),
            "HODEI_LOG_DIR": str(self.folder / "logs"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "HODEI_WORKER_IMAGE": image,
        }
        self.system = System.at(
            f"http://127.0.0.1:{port}", variables.get("HODEI_API_TOKEN"), dict(variables) | own
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        env = {name: value for name, value in self.system.env.items() if name != "HODEI_URL"}
        with self.log.open("wb") as output:
            self._process = process = subprocess.Popen(
                [str(PROGRAMS / "hodei"), "dev"], env=env, cwd=self.folder, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        ended = lambda: process.poll() is not None  # noqa: E731
        if not wait_until_ready(self.system.url, timeout_s=READY_WITHIN_S, stopped=ended):
            how = (
                f"ended with {process.returncode}" if ended() else f"is not ready after {READY_WITHIN_S:g} s"
            )
            raise Off(f"hodei dev {how}. It said last:\n{self.last_words()}")
        return f"hodei dev at {self.system.url}, data in {self.folder}"

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """SIGINT as from Ctrl-C, so that its workers end too; then everything of it is removed."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
