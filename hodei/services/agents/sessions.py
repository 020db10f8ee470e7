"""Whose session a token is."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from uuid import UUID

from hodei.errors import Unauthorized
from hodei.ports import Platform

UNKNOWN_SESSION = "This session is not known: its worker has ended, or was never registered here."


@dataclass(frozen=True, kw_only=True)
class AgentIdentity:
    """Who calls: the worker that the session token is bound to."""

    worker_id: UUID
    provider_id: UUID | None = None
    session_hash: bytes = field(default=b"", repr=False)


class Sessions:
    """Session tokens seen lately, so that a call does not cost a look-up.

    An entry is trusted for a few seconds after a look at the database: its own, or a heartbeat that found the worker.
    """

    TRUSTED_FOR_S = 5.0
    LARGEST = 20_000

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[float, AgentIdentity]] = {}

    def find(self, platform: Platform, session_token: str) -> AgentIdentity:
        """Whose session it is. Raises Unauthorized."""
        hashed = hashlib.sha256(session_token.encode()).digest()
        seen = self._seen.get(hashed)
        if seen is not None and seen[0] > time.monotonic():
            return seen[1]
        with platform.database.glance() as tx:
            row = tx.row("session_find", token_hash=hashed)
        if row is None:
            self._seen.pop(hashed, None)
            raise Unauthorized(UNKNOWN_SESSION)
        if len(self._seen) >= self.LARGEST:
            self._seen.clear()
        identity = AgentIdentity(worker_id=row.worker_id, provider_id=row.provider_id, session_hash=hashed)
        self._seen[hashed] = (time.monotonic() + self.TRUSTED_FOR_S, identity)
        return identity

    def found(self, agent: AgentIdentity, interval_s: float) -> None:
        """A heartbeat found the worker: the session is trusted until after its next one."""
        if agent.session_hash:
            self._seen[agent.session_hash] = (
                time.monotonic() + interval_s + self.TRUSTED_FOR_S,
                agent,
            )

    def forget(self, agent: AgentIdentity) -> None:
        """The worker has ended: nobody is trusted with its session."""
        self._seen.pop(agent.session_hash, None)


sessions = Sessions()
"""What this process has seen. Nothing is lost with it: the database is asked again."""


def authenticate(platform: Platform, session_token: str) -> AgentIdentity:
    """Whose session this is. Raises Unauthorized."""
    return sessions.find(platform, session_token)
