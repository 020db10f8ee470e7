"""Pages of other origins: none by default, those that HODEI_ALLOWED_ORIGINS lists otherwise."""

from __future__ import annotations

from flask import Request, Response

METHODS = "GET, POST, PATCH, DELETE"
HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-Id"
EXPOSED = "Link, X-Request-Id, Hodei-Log-End, Hodei-Log-Attempt"


def preflight(request: Request, origins: frozenset[str]) -> Response | None:
    """The answer to a listed page's question whether it may ask; None for every other request."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    if request.headers.get("Origin") not in origins:
        return None
    return Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": HEADERS,
            "Access-Control-Max-Age": "600",
        },
    )


def allow(request: Request, response: Response, origins: frozenset[str]) -> None:
    """Let a listed page read the answer."""
    origin = request.headers.get("Origin")
    if origin is not None and origin in origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.vary.add("Origin")
