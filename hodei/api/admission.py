"""How many connections one address may hold, so that one worker cannot take them all.

What an address stands for depends on where it comes from. On Docker's bridge each container has its own. Elsewhere
many workers may share one: a Kubernetes node that hides its pods behind its own address, or a gateway in front of a
whole cluster; there the limit only keeps room for everybody else.
"""

from __future__ import annotations

import resource
import time
from collections import Counter

import structlog

WORKERS_CONNECTIONS = 64
"""An agent holds up to four: inbox, frames, heartbeat, and one that it has just given up. The rest is for what else
runs in its container, and for connections whose end we have not seen."""
SHARED_ADDRESS = 0.75
"""Of all connections: what an address may hold behind which there may be any number of workers."""
SAY_AGAIN_S = 60.0

log = structlog.get_logger("hodei.server")


class Admission:
    """The open connections by address. For the loop's thread alone."""

    def __init__(self, most: int) -> None:
        self._shared = max(1, int(most * SHARED_ADDRESS))
        self._held: Counter[str] = Counter()
        self._said: dict[str, float] = {}

    def enter(self, address: str, *, own: str, own_addresses: bool) -> bool:
        """Whether one more may come from there; it is counted then. ``own_addresses``: each worker has one of its own here.
        ``own`` is the listener's: whoever comes from it was translated by this machine itself, as under rootless Docker,
        and may be many."""
        limit = WORKERS_CONNECTIONS if own_addresses and address != own else self._shared
        if self._held[address] >= limit:
            self._say(address, limit)
            return False
        self._held[address] += 1
        return True

    def leave(self, address: str) -> None:
        self._held[address] -= 1
        if self._held[address] <= 0:
            del self._held[address]

    def _say(self, address: str, limit: int) -> None:
        """Once a minute for each address: whoever connects without end must not write without end."""
        now = time.monotonic()
        self._said = {name: at for name, at in self._said.items() if now - at < SAY_AGAIN_S}
        if address not in self._said:
            self._said[address] = now
            log.warning(
                "too many connections from one address: further ones are refused until some end",
                address=address,
                limit=limit,
            )


def allow_descriptors(wanted: int) -> int:
    """How many file descriptors this process may have, after asking for that many: each connection is one, and a
    shell may allow only 1024 until it is asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (ValueError, OSError):
        return soft
    return most
