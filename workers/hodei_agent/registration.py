"""Registration: the one-time token becomes a session."""

from __future__ import annotations

import binascii
import os
import sys
from typing import Any, Callable, NamedTuple

from hodei_agent.client import Client
from hodei_agent.protocol import AGENT_VERSION, PROTOCOL_VERSION
from hodei_agent.settings import Settings

PATIENCE_S = 900.0
"""How long an agent tries to register: the default life of a one-time token."""


class Registration(NamedTuple):
    """What the platform answered: how this worker shall behave."""

    session_token: str
    heartbeat_interval_s: float
    lease_s: float
    poll_s: float
    max_jobs: int
    spool_bytes: int
    log_max_bytes: int


def find_program(name: str, path: str) -> str | None:
    """The program's file on that PATH, or None."""
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    return None


def new_session_token() -> str:
    """256 random bits as 43 URL-safe characters."""
    text = binascii.b2a_base64(os.urandom(32), newline=False).decode()
    return text.rstrip("=").replace("+", "-").replace("/", "_")


def describe(worker_id: str, session_token: str, path: str) -> dict[str, Any]:
    """The body of the registration."""
    return {
        "worker_id": worker_id,
        "protocol": PROTOCOL_VERSION,
        "agent_version": AGENT_VERSION,
        "session_token": session_token,
        "hostname": os.uname().nodename,
        "pid": os.getpid(),
        "boot_id": _boot_id(),
        "instance": os.urandom(8).hex(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "shells": [shell for shell in ("bash", "sh") if find_program(shell, path)],
        "cgroup": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
    }


def register(
    client: Client,
    settings: Settings,
    path: str,
    on_sent: Callable[[], object],
    on_failure: Callable[[str], object],
    session_token: str | None = None,
) -> Registration:
    """Register over `client` and let it use the session's token from then on.

    Repeats until it is answered, with the same session token, so that an answer that was lost is given again. `session_token`:
    one that was kept, with which an agent that was started again is known.
    Raises Unauthorized, Refused or LeaseLost.
    """
    session_token = session_token or new_session_token()
    answer = client.call(
        "POST",
        "register",
        describe(settings.worker_id, session_token, path),
        on_sent=on_sent,
        on_failure=on_failure,
    )
    client.use_session(session_token)
    log = answer.get("log") or {}
    return Registration(
        session_token=session_token,
        heartbeat_interval_s=float(answer.get("heartbeat_interval_s") or 5.0),
        lease_s=float(answer.get("lease_s") or 270.0),
        poll_s=float(answer.get("poll_s") or 25.0),
        max_jobs=int(answer.get("max_jobs", 1)),
        spool_bytes=int(log.get("spool_bytes") or 256 * 1024 * 1024),
        log_max_bytes=int(log.get("max_bytes") or 1024 * 1024 * 1024),
    )


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
