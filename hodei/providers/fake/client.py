"""Asks the fleet, and starts it when nobody answers."""

from __future__ import annotations

import fcntl
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError

START_S = 10.0
ANSWER_S = 30.0
_LONGEST_PATH = 100
"""A Unix socket's address has at most 107 bytes."""


def socket_path(data_dir: Path) -> Path:
    """Where the fleet of a data folder listens: in it, or in `/tmp` when that path is too long."""
    path = data_dir.resolve() / "fleet.sock"
    if len(str(path)) <= _LONGEST_PATH:
        return path
    return Path("/tmp") / f"hodei-fleet-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.sock"


class FleetClient:
    """Questions to one fleet, each on a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, op: str, *, answer_s: float = ANSWER_S, **fields: Any) -> dict[str, Any]:
        """Ask and wait for the answer. Raises ProviderError: ERR_5001 no fleet, ERR_5006 no answer, ERR_5008
        its error."""
        question = json.dumps({"op": op, **fields}).encode() + b"\n"
        try:
            with self._connect(answer_s) as connection:
                connection.sendall(question)
                with connection.makefile("rb") as answers:
                    line = answers.readline()
            answer: dict[str, Any] = json.loads(line)
        except TimeoutError as error:
            message = f"The fleet at {self.path} did not answer within {answer_s:g} s."
            raise ProviderError(Failure(code="ERR_5006", message=message), transient=True) from error
        except (OSError, ValueError) as error:
            message = f"The fleet at {self.path} cannot be reached: {error}"
            raise ProviderError(Failure(code="ERR_5001", message=message), transient=True) from error
        if "error" in answer:
            raise ProviderError(Failure(code="ERR_5008", message=f"The fleet failed: {answer['error']}"))
        return answer

    def _connect(self, timeout_s: float) -> socket.socket:
        """A connection to the fleet, which is started when there is none: by one caller, the others wait."""
        connection = self._try(timeout_s)
        if connection is not None:
            return connection
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.starting").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection = self._try(timeout_s)
            if connection is None:
                self._spawn()
            deadline = time.monotonic() + START_S
            while connection is None:
                if time.monotonic() > deadline:
                    raise ConnectionRefusedError(
                        f"it did not start within {START_S:g} s; see {self.path}.log"
                    )
                time.sleep(0.01)
                connection = self._try(timeout_s)
        return connection

    def _try(self, timeout_s: float) -> socket.socket | None:
        """A connection, None when no fleet listens. Raises OSError for anything else."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(self.path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        return connection

    def _spawn(self) -> None:
        with self.path.with_name(f"{self.path.name}.log").open("ab") as log:
            fleet = subprocess.Popen(
                [sys.executable, "-m", "hodei.providers.fake.fleet", "--socket", str(self.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        threading.Thread(target=fleet.wait, name="fleet", daemon=True).start()
