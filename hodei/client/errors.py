"""What can go wrong between a client and the services."""

from __future__ import annotations

from typing import Any, ClassVar

from hodei.errors import HodeiError

TOKEN_HINT = "Give the server's token with --token or HODEI_API_TOKEN."


class ServerRefused(HodeiError):
    """The server refused the request."""

    code: ClassVar[str] = "refused"
    exit_code: ClassVar[int] = 3

    def __init__(self, problem: dict[str, Any]) -> None:
        self.problem = problem
        self.http_status = int(problem.get("status") or 0)
        sentence = str(problem.get("detail") or problem.get("title") or "The server refused the request.")
        field = problem.get("field")
        if field and str(field) not in sentence:
            sentence = f"{field}: {sentence}"
        if self.http_status == 401:
            sentence = f"{sentence} {TOKEN_HINT}"
        super().__init__(sentence, field=None if field is None else str(field))


class ServerUnreachable(HodeiError):
    """No Hodei Jobs server answers. Start one with: hodei dev"""

    code: ClassVar[str] = "unreachable"
    exit_code: ClassVar[int] = 4

    @classmethod
    def nobody_at(cls, url: str, *, reason: str = "") -> ServerUnreachable:
        """Nothing listens there."""
        why = f" ({reason})" if reason else ""
        return cls(f"No Hodei Jobs server at {url}{why}. Start one with: hodei dev")


class ServerSilent(ServerUnreachable):
    """The server took the request and did not answer in time."""

    @classmethod
    def at(cls, url: str, timeout_s: float) -> ServerSilent:
        return cls(f"The server at {url} did not answer within {timeout_s:g} s. Look with: hodei status")


class ConnectionLost(ServerUnreachable):
    """The connection ended before the answer was complete."""

    @classmethod
    def to(cls, url: str) -> ConnectionLost:
        return cls(f"The connection to the server at {url} broke before it answered. Try again.")


class ServerUnavailable(ServerUnreachable):
    """The server is there and cannot work now."""

    @classmethod
    def at(cls, url: str, problem: dict[str, Any]) -> ServerUnavailable:
        said = problem.get("detail") or problem.get("title") or f"HTTP {problem.get('status')}"
        return cls(f"The server at {url} cannot work now: {said} Look with: hodei status")


class NotHodei(ServerUnreachable):
    """Something else answers there."""

    @classmethod
    def at(cls, url: str, what: str) -> NotHodei:
        return cls(
            f"What answers at {url} is not Hodei Jobs ({what}). Name the server with --server or HODEI_URL."
        )
