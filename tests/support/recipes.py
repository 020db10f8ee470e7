"""A person at a terminal in this checkout, who types ``just`` and has a platform of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from hodei.embedded.ports import free_port
from support.platform import CHECKOUT, E2E_IMAGE
from support.waiting import until

JUST = Path(sys.executable).parent / "just"
PORTS = ("ORCHESTRATOR", "SCHEDULER", "WORKER_MANAGER", "FLOWER")
STOPPED_WITHIN_S = 30.0


class Begun:
    """A recipe that goes on until it is stopped, and what it has shown."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.shown = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        while piece := os.read(self.process.stdout.fileno(), 65536):
            self.shown += piece.decode(errors="replace")

    def until(self, *texts: str, within_s: float = 120.0) -> None:
        """Until all of them were shown."""

        def there() -> bool:
            missing = [text for text in texts if text not in self.shown]
            if missing and self.process.poll() is not None:
                raise AssertionError(f"it ended without {missing}:\n{self.shown[-3000:]}")
            return not missing

        until(there, within_s=within_s, what=f"{texts}")

    def stop(self) -> None:
        """As Ctrl-C in its terminal does, which everything in it gets."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(STOPPED_WITHIN_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._reader.join(5)
            assert self.process.stdout
            self.process.stdout.close()


class Person:
    """``folder`` is theirs; ``more`` are variables that they have set. Nothing of this process's own reaches them."""

    def __init__(self, folder: Path, **more: str) -> None:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HODEI_", "PYTEST_", "COV_", "DATABASE_URL"))
        }
        self.folder = folder
        self.env = kept | {
            "PATH": f"{JUST.parent}:{os.environ['PATH']}",
            "HODEI_DATA_DIR": str(folder / "data"),
            "HODEI_LOG_DIR": str(folder / "logs"),
            "XDG_STATE_HOME": str(folder / "state"),
            "HODEI_WORKER_IMAGE": E2E_IMAGE,
            "HODEI_DOCKER_ENABLED": "0",
            "HODEI_KUBERNETES_ENABLED": "0",
            **{f"HODEI_{name}_PORT": str(free_port()) for name in PORTS},
            **more,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.env['HODEI_ORCHESTRATOR_PORT']}"

    def just(
        self, *words: str, timeout_s: float = 180, cwd: Path = CHECKOUT, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run recipes to their end; stdout has all that was shown."""
        return subprocess.run(
            [str(JUST), *words], env=self.env | dict(env or {}), cwd=cwd, text=True, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @contextlib.contextmanager
    def begun(
        self, *words: str, program: str = "just", env: Mapping[str, str] | None = None
    ) -> Iterator[Begun]:
        """Start a recipe, or another program of the environment, that goes on; stop it."""
        process = subprocess.Popen(
            [str(JUST.with_name(program)), *words], env=self.env | dict(env or {}), cwd=CHECKOUT, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        begun = Begun(process)
        try:
            yield begun
        finally:
            begun.stop()

    def hodei(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line in another terminal, which finds the platform by itself."""
        return subprocess.run(
            [str(JUST.parent / "hodei"), *arguments],
            env=self.env, cwd="/", capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
