"""A span for each request of people and programs, within their own trace when they name one (W3C ``traceparent``).

Agents' calls have none: the clock tells of what they did once the job has ended, and most of them are polls.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from flask import Request, Response, g

from hodei.api.guard import is_open
from hodei.api.listeners import AGENT_PREFIX

if TYPE_CHECKING:
    from hodei.observability.tracing import Tracing

UNTRACED = ("/metrics",)


def begin(tracing: Tracing, request: Request, *, service: str) -> None:
    """The request's span is this thread's, until :func:`end`."""
    if not tracing.on or request.path.startswith(AGENT_PREFIX):
        return
    if is_open(request.path) or request.path in UNTRACED:
        return
    route = request.url_rule.rule if request.url_rule is not None else None
    g.tracing = ExitStack()
    g.span = g.tracing.enter_context(
        tracing.span(
            f"{request.method} {route}" if route else request.method,
            kind="server",
            parent=request.headers.get("traceparent"),
            attributes={
                "http.request.method": request.method,
                "http.route": route,
                "url.path": request.path,
                "hodei.service": service,
            },
        )
    )


def answered(response: Response) -> None:
    """What was answered; a request that we could not answer is a failure, one that was refused is not."""
    if "span" in g:
        g.span.set(http__response__status_code=response.status_code, hodei__request_id=g.request_id)
        if response.status_code >= 500:
            g.span.fail(response.status)


def end() -> None:
    """The request is over."""
    stack: ExitStack | None = g.pop("tracing", None)
    if stack is not None:
        stack.close()
