"""Calls to the platform: the headers, and what each answer means (the first table of the protocol)."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Callable, Dict, Union

from hodei_agent.errors import LeaseLost, Refused, StaleAttempt, Unauthorized
from hodei_agent.http1 import Connection
from hodei_agent.lease import Lease
from hodei_agent.protocol import PROTOCOL_VERSION
from hodei_agent.settings import Server

Body = Union[None, bytes, Dict[str, Any], Callable[[], Union[bytes, Dict[str, Any]]]]

CALL_TIMEOUT_S = 15.0
BACKOFF_FIRST_S = 0.1
BACKOFF_LAST_S = 5.0
AGAIN_STATUSES = frozenset((408, 413, 425, 429))
AGAIN_ONCE_REGISTERED = frozenset((403, 426))
"""Who got a session before is let in again once a wrong allow-list, or an update that is under way, has passed."""


def backoff_s(failures: int) -> float:
    """How long to wait after that many failures in a row: 0.1 s doubling to 5 s, full jitter."""
    limit = min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 16))
    return limit * int.from_bytes(os.urandom(4), "big") / 2**32


class Client:
    """One thread's line to the platform."""

    def __init__(self, server: Server, token: str, lease: Lease, *, registered: bool = True) -> None:
        self._connection = Connection(server)
        self._again = AGAIN_STATUSES | AGAIN_ONCE_REGISTERED if registered else AGAIN_STATUSES
        self._authorization = (
            f"Authorization: Bearer {token}\r\nHodei-Protocol: {PROTOCOL_VERSION}\r\n".encode()
        )
        self._lease = lease
        self.holds_until = 0.0
        """Until when the last answer holds, on the lease's clock."""

    def use_session(self, token: str) -> None:
        """Call with the session's token from now on, over the same connection."""
        self._again = AGAIN_STATUSES | AGAIN_ONCE_REGISTERED
        self._authorization = (
            f"Authorization: Bearer {token}\r\nHodei-Protocol: {PROTOCOL_VERSION}\r\n".encode()
        )

    def call(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        content_type: str = "application/json",
        timeout_s: float = CALL_TIMEOUT_S,
        patience_s: float | None = None,
        on_sent: Callable[[], object] | None = None,
        on_failure: Callable[[str], object] | None = None,
    ) -> dict[str, Any]:
        """Make the call, again and again if need be, and return the answer's document.

        `body` may be a function: it is asked anew for each try. Only the platform's own documents count: what a proxy, a login
        page or another server says is as good as no answer. Raises Unauthorized, StaleAttempt, Refused, and LeaseLost when the
        lease (or `patience_s`, if less) ran out before an answer came.
        """
        failures = 0
        give_up_at = None if patience_s is None else time.monotonic() + patience_s
        while True:
            sent_at = self._lease.now()
            try:
                status, answer = self._send(method, path, body, content_type, timeout_s, on_sent)
            except OSError as error:
                trouble = str(error) or type(error).__name__
            else:
                document = _document(answer)
                if document is not None and 200 <= status < 300:
                    length_s = document.get("lease_s")
                    self.holds_until = self._lease.renew(sent_at, float(length_s) if length_s else None)
                    return document
                trouble = self._judge(status, document or {})
            failures += 1
            if on_failure is not None:
                on_failure(trouble)
            pause = backoff_s(failures)
            if self._lease.remaining_s <= pause:
                raise LeaseLost(trouble)
            if give_up_at is not None and time.monotonic() + pause >= give_up_at:
                raise LeaseLost(trouble)
            time.sleep(pause)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _send(
        self,
        method: str,
        path: str,
        body: Body,
        content_type: str,
        timeout_s: float,
        on_sent: Callable[[], object] | None,
    ) -> tuple[int, bytes]:
        if callable(body):
            body = body()
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = self._authorization
        if method != "GET":
            headers += f"Content-Type: {content_type}\r\n".encode()
        return self._connection.request(method, "/api/v1/agent/" + path, headers, data, timeout_s, on_sent)

    def _judge(self, status: int, problem: dict[str, Any]) -> str:
        """Raise what the answer means for good, or return what to say about one that may mend itself."""
        code, detail = (
            str(problem.get("code") or ""),
            str(problem.get("detail") or problem.get("title") or ""),
        )
        if not code:
            hint = ", a redirect: give the address that it leads to" if 300 <= status < 400 else ""
            return f"something on the way answered {status}{hint}"
        if status == 401:
            raise Unauthorized()
        if status == 409 and code == "stale_attempt":
            raise StaleAttempt()
        if status >= 500 or status in self._again:
            return f"the server answered {status} {code}"
        raise Refused(status, code, detail)


def _document(answer: bytes) -> dict[str, Any] | None:
    """The answer's JSON object: the platform always gives one. None for anything else."""
    try:
        document = json.loads(answer)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
