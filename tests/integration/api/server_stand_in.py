"""Runs ``hodei.api.serve`` with a platform that only waits: ``… READY_FILE SERVICES [AGENT_HOST]…``.

An ``AGENT_HOST`` may be ``HOST@FILE``: it is known only once there is the file; and ``HOST+``: many workers may share an
address there.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import hodei.services.agents as agents
import hodei.services.health as health
import hodei.services.presence as presence
import hodei.services.summary as summary
from hodei.api import serve
from hodei.errors import HodeiError
from hodei.observability.tracing import NoTracing
from hodei.settings import load_settings

closing = threading.Event()


def open_platform(settings: Any, role: str) -> SimpleNamespace:
    print(f"platform opened for {role}", file=sys.stderr)
    return SimpleNamespace(
        settings=settings,
        database=None,
        wakeups=SimpleNamespace(close=closing.set),
        tracing=NoTracing(),
        close=lambda: print("platform closed", file=sys.stderr),
    )


class Door:
    """Says nothing to nobody."""

    def __init__(self, *_: Any) -> None: ...

    def start(self) -> Door:
        return self

    def stop(self) -> None: ...


def wait(_platform: Any, _agent: Any, _after: int, wait_s: float) -> list[Any]:
    closing.wait(wait_s)
    return []


def known(agent_hosts: list[str]) -> Iterator[tuple[str, int, bool]]:
    for agent_host in agent_hosts:
        host, _, file = agent_host.partition("@")
        if not file or Path(file).exists():
            yield host.rstrip("+"), 0, host.endswith("+")


def main() -> None:
    bootstrap = ModuleType("hodei.bootstrap")
    bootstrap.open_platform = open_platform  # type: ignore[attr-defined]
    sys.modules["hodei.bootstrap"] = bootstrap
    presence.Presence = Door  # type: ignore[assignment, misc]
    agents.authenticate = lambda _platform, token: token  # type: ignore[assignment, misc]
    agents.poll_inbox = wait
    agents.heartbeat = lambda *_: {"lease_s": 270.0, "stale": []}
    health.check = lambda _platform, service: {
        "status": "ok",
        "service": service,
        "version": "1",
        "checks": {},
    }
    summary.summary = lambda _platform: {}
    ready, services, *agent_hosts = sys.argv[1:]
    try:
        serve.run(
            load_settings(log_format="json"),
            services.split(","),
            agent_binds=lambda _platform: list(known(agent_hosts)),
            ready_file=Path(ready),
        )
    except HodeiError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
