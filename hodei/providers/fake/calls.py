"""The protocol's calls as a simulated agent makes them: again and again, for as long as its lease lives."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

from hodei.providers.fake.http import Connection, Server

FIRST_LEASE_S = 600.0
ANSWER_S = 30.0
_JSON = "application/json"


class Leave(Exception):
    """The agent has to go; ``exit_code`` as the real one's."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Superseded(Exception):
    """The attempt is not the job's any more."""


class Calls:
    """One agent's calls, with its token and its lease."""

    def __init__(self, server: Server, token: str) -> None:
        self.server = server
        self.token = token
        self.lease_s = FIRST_LEASE_S
        self._answered = time.monotonic()

    async def json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self.send(method, path, None if body is None else json.dumps(body).encode())

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        content_type: str = _JSON,
        connection: Connection | None = None,
        timeout_s: float = ANSWER_S,
    ) -> dict[str, Any]:
        """Call until there is an answer. Raises Leave (token or lease gone, refused) and Superseded (409
        `stale_attempt`)."""
        pause_s = 0.1
        while True:
            request = self.server.request(method, path, self.token, body, content_type)
            sent_at = time.monotonic()
            try:
                answer = await (connection or self.server).ask(request, timeout_s)
            except OSError:
                pass
            else:
                if 200 <= answer.status < 300:
                    document = answer.json()
                    self.lease_s = float(document.get("lease_s") or self.lease_s)
                    self._answered = max(self._answered, sent_at)
                    return document
                if answer.status == 401:
                    raise Leave(3)
                if answer.status == 409 and answer.json().get("code") == "stale_attempt":
                    raise Superseded
                if answer.status < 500 and answer.status not in {413, 429}:
                    raise Leave(4)
            if time.monotonic() - self._answered > self.lease_s:
                raise Leave(5)
            await asyncio.sleep(random.uniform(0, pause_s))
            pause_s = min(5.0, pause_s * 2)
