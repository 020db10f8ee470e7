"""How the command line, in any folder, finds the `hodei dev` of this user. Imports quickly, no packages."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from hodei.embedded.process_identity import lives, started_at


@dataclass(frozen=True, kw_only=True)
class State:
    url: str
    pid: int
    token: str | None = field(default=None, repr=False)


def path() -> Path:
    """`$XDG_STATE_HOME/hodei/dev.json`, else `~/.local/state/hodei/dev.json`."""
    configured = os.environ.get("XDG_STATE_HOME", "")
    base = Path(configured) if configured.startswith("/") else Path.home() / ".local" / "state"
    return base / "hodei" / "dev.json"


def write(url: str, pid: int | None = None, token: str | None = None) -> None:
    """Notes where the platform of process `pid` (this one by default) is; replaces what was noted before.

    The file appears whole, and only its owner can read it.
    """
    pid = pid or os.getpid()
    place = path()
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = place.with_name(f".dev.json-{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump({"url": url, "pid": pid, "started": started_at(pid) or "", "token": token}, file)
    unfinished.replace(place)


def read() -> State | None:
    """What was noted, when it is ours and the very process that it names is alive; else None."""
    try:
        with path().open() as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return None
            noted = json.load(file)
        if lives(noted["pid"], noted["started"]):
            return State(url=noted["url"], pid=noted["pid"], token=noted["token"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent, unreadable or not ours to understand: as if there were none
    return None


def remove(pid: int | None = None) -> None:
    """Forgets the note of process `pid` (this one by default); another's is left alone."""
    place = path()
    try:
        if json.loads(place.read_text())["pid"] == (pid or os.getpid()):
            place.unlink(missing_ok=True)
    except (OSError, ValueError, KeyError, TypeError):
        pass
