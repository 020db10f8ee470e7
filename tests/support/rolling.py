"""A platform of which each process is restarted in its turn, while a client asks for one thing after the other."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hodei.client.client import HodeiClient
from hodei.providers.fake.client import socket_path
from support import witness_fleet
from support.platform import RunningPlatform
from support.waiting import until

FAKE_PROVIDER_ID = "f4cef4ce-f4ce-f4ce-f4ce-f4cef4cef4ce"
PATIENCE_S = 30.0
"""More than the usual ten seconds: how long a process takes to start depends on what else the machine does."""

PROCESSES = ("orchestrator", "scheduler", "worker-manager", "controller", "controller-2", "beat", "beat-2")
"""As the Procfile has them, and a second controller and clock: what one leaves the other takes."""


@contextlib.contextmanager
def witnessed_fleet(platform: RunningPlatform) -> Iterator[Path]:
    """A fleet of simulated workers on this machine, and the file in which it says what it does; it outlives the platform's
    processes as containers do."""
    said = platform.folder / "fleet.log"
    path = socket_path(Path(platform.env["HODEI_DATA_DIR"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with said.open("wb") as output:
        fleet = subprocess.Popen(
            [sys.executable, witness_fleet.__file__, "--socket", str(path)],
            stdout=output,
            cwd=platform.folder,
        )
    try:
        until(path.exists, within_s=30, what="the fleet's socket")
        yield said
    finally:
        fleet.terminate()
        fleet.wait(10)


def runs(said: Path) -> Counter[str]:
    """How often each job was run, whatever the tables say."""
    facts = [json.loads(line) for line in said.read_text().splitlines() if line.startswith("{")]
    return Counter(fact["job_id"] for fact in facts if fact["what"] == "run")


def add_fleet(platform: RunningPlatform, *, places: int) -> None:
    """The fake provider is never there by itself."""
    platform.sql(
        "INSERT INTO provider_configs (id, name, provider_type, status, config, max_workers, capabilities) "
        """VALUES (%s, 'fake', 'fake', 'ACTIVE', '{}', %s, '{"images": true}')""",
        FAKE_PROVIDER_ID,
        places,
    )


@dataclass
class Caller:
    """Submits jobs at an even rate and reads from every service, as a program that uses ``hodei.client`` does: each call once.

    ``job_ids`` are what was accepted, ``failed`` what went wrong, ``longest_s`` how long a call took at most.
    """

    platform: RunningPlatform
    job: dict[str, Any]
    rate: float
    job_ids: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    longest_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("submit", "read"), 0.0))
    _enough: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Calls until the end of the block."""
        threads = [threading.Thread(target=work) for work in (self._submit, self._submit, self._read)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._enough.set()
            for thread in threads:
                thread.join(60)

    def _submit(self) -> None:
        """Half of the rate; what a restart held up is made up for, so that the rate is kept on the whole."""
        with self._client() as client:
            due_at = time.monotonic()
            while not self._enough.wait(max(0.0, due_at - time.monotonic())):
                due_at += 2 / self.rate
                with self._timed("submit"):
                    self.job_ids.append(client.create_job(self.job).id)

    def _read(self) -> None:
        with self._client() as client:
            while not self._enough.wait(0.2):
                with self._timed("read"):
                    next(iter(client.jobs(limit=5)), None)
                with self._timed("read"):
                    next(iter(client.workers(limit=5)), None)
                with self._timed("read"):
                    list(client.schedules(limit=5))

    def _client(self) -> HodeiClient:
        return HodeiClient(self.platform.url, timeout_s=PATIENCE_S, patience_s=PATIENCE_S)

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            self.failed.append(f"{what}: {error!r}")
        self.longest_s[what] = max(self.longest_s[what], time.monotonic() - began)
