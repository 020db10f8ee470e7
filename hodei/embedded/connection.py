"""How processes without configuration find the embedded servers that another one started."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hodei.embedded.data_folder import default_data_dir, write_private
from hodei.embedded.errors import NotRunning
from hodei.embedded.process_identity import lives, started_at

LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Urls:
    """None for a server that is not embedded, because it is configured elsewhere."""

    database_url: str | None
    redis_url: str | None
    secret_key: str


def write(path: Path, urls: Urls, *, pids: Iterable[int]) -> None:
    """Notes the URLs, and the processes that must all be alive for them to be true."""
    processes = {str(pid): started_at(pid) or "" for pid in pids}
    write_private(path, json.dumps({"urls": asdict(urls), "processes": processes}))


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def discover(data_dir: Path | None = None) -> Urls | None:
    """The URLs of the servers on the data folder; None when they, or who started them, are not alive."""
    path = (data_dir or default_data_dir()) / "connection.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        noted = json.loads(path.read_text())
        if all(lives(int(pid), started) for pid, started in noted["processes"].items()):
            return Urls(**noted["urls"])
    return None


def wait_for_embedded(data_dir: Path | None = None, timeout_s: float = 60.0) -> Urls:
    """Waits until the servers are up. NotRunning when they do not come in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = discover(data_dir)
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotRunning(data_dir or default_data_dir(), timeout_s)
        time.sleep(LOOK_AGAIN_S)
