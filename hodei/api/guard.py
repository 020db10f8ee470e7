"""What a request must pass before a route sees it: Host, origin, token, size.

A browser runs strangers' pages on the operator's machine. Such a page can send requests to a local port, and
by DNS rebinding even under a name of its own; it cannot choose the Host, Origin and Sec-Fetch-Site headers.
So those decide, and then the token.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from flask import Request

from hodei.api.listeners import AGENT_PREFIX, ENVIRON_KEY
from hodei.errors import Forbidden, Unauthorized
from hodei.exposure import LOOPBACK_NAMES, host_in, is_address, is_loopback
from hodei.settings import Settings

MAX_JSON_BYTES = 1024**2
MAX_FRAMES_BYTES = 4 * 1024**2 + 64 * 1024
"""What the protocol allows, and some room for a last frame's header."""

WORKERS_NAMES = frozenset({"host.docker.internal"})
OPEN_PATHS = ("/health", "/openapi.json", "/swagger-ui")
"""Without a token: a liveness probe has none, and a browser that opens the description cannot send one."""


class Guard:
    """The rules of one process, from its settings."""

    def __init__(self, settings: Settings) -> None:
        self._token = settings.api_token
        self._bind_is_wildcard = settings.bind in ("", "0.0.0.0", "::")
        self.origins = frozenset(_listed(settings.allowed_origins))
        self._hosts = LOOPBACK_NAMES | {settings.bind.lower()} | set(_listed(settings.allowed_hosts))
        if settings.server_host:
            self._hosts |= {host_in(settings.server_host)}

    def check(self, request: Request) -> None:
        """Raises Forbidden or Unauthorized; sets how large the body may be."""
        is_agents = request.path.startswith(AGENT_PREFIX)
        request.max_content_length = MAX_FRAMES_BYTES if request.path.endswith("/frames") else MAX_JSON_BYTES
        self._check_host(request, is_agents=is_agents)
        self._check_origin(request)
        if not is_agents and self._token is not None and not is_open(request.path):
            self._check_token(request)

    def _check_host(self, request: Request, *, is_agents: bool) -> None:
        host = host_in(request.headers.get("Host", ""))
        if host in self._hosts or is_loopback(host):
            return
        if is_agents and host in WORKERS_NAMES:
            return
        listener = request.environ.get(ENVIRON_KEY)
        any_address = self._bind_is_wildcard or (
            listener is not None and (listener.is_wildcard or listener.agents_only)
        )
        if any_address and is_address(host):
            return
        raise Forbidden(
            "The Host header names another server: add that name to HODEI_ALLOWED_HOSTS if it is this one's."
        )

    def _check_origin(self, request: Request) -> None:
        origin = request.headers.get("Origin")
        if origin is not None:
            if (
                origin in self.origins
                or urlsplit(origin).netloc.lower() == request.headers.get("Host", "").lower()
            ):
                return
            raise Forbidden(
                "Requests from pages of another origin are refused: HODEI_ALLOWED_ORIGINS lists exceptions."
            )
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and not _is_link_to_docs(
            request
        ):
            raise Forbidden(
                "Requests from pages of another site are refused: HODEI_ALLOWED_ORIGINS lists exceptions."
            )

    def _check_token(self, request: Request) -> None:
        given = bearer(request)
        if given is None or not hmac.compare_digest(given.encode(), (self._token or "").encode()):
            raise Unauthorized(
                "This server wants a token: send Authorization: Bearer with what HODEI_API_TOKEN holds."
            )


def bearer(request: Request) -> str | None:
    """The bearer token of the request, if it has one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def is_open(path: str) -> bool:
    """True for what is answered without a token."""
    return any(path == known or path.startswith(f"{known}/") for known in OPEN_PATHS)


def _is_link_to_docs(request: Request) -> bool:
    return (
        request.method == "GET"
        and request.path.rstrip("/") == "/swagger-ui"
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") == "document"
    )


def _listed(value: str) -> list[str]:
    return [item.strip().lower().rstrip("/") for item in value.split(",") if item.strip()]
