"""The three services as Flask apps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from flask import Flask, Request, Response, g, request

from hodei.api import cors, problems, swagger, traced
from hodei.api.current import EXTENSION, Context, context
from hodei.api.description import DescribedApp
from hodei.api.guard import Guard
from hodei.api.listeners import AGENT_PREFIX
from hodei.api.routes import routes_of
from hodei.observability.context import about_job, bind_request, request_id_from, unbind_request
from hodei.observability.metrics import HttpMetrics
from hodei.observability.page import PlatformFigures
from hodei.services import figures as platform_figures

if TYPE_CHECKING:
    from hodei.ports import Platform

SERVICES = ("orchestrator", "scheduler", "worker-manager")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ASKED_OFTEN = ("/health", "/metrics")
"""By probes and scrapers, every few seconds for ever: no line of the log each."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

log = structlog.get_logger("hodei.api")


def create_app(
    platform: Platform,
    service: str,
    *,
    metrics: HttpMetrics | None = None,
    figures: PlatformFigures | None = None,
    ports: Mapping[str, int] | None = None,
) -> Flask:
    """One service's app. ``ports`` are where the services listen; without it, as the settings have it."""
    settings = platform.settings
    app = DescribedApp(service, has_token=settings.api_token is not None)
    known = {
        "orchestrator": settings.orchestrator_port,
        "scheduler": settings.scheduler_port,
        "worker-manager": settings.worker_manager_port,
    }
    app.extensions[EXTENSION] = Context(
        platform=platform,
        service=service,
        guard=Guard(settings),
        metrics=metrics or HttpMetrics(),
        figures=figures or PlatformFigures(lambda: platform_figures.read(platform)),
        ports=known | dict(ports or {}),
    )
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_forget)
    problems.install(app)
    for routes in routes_of(service):
        app.add(routes)
    app.register_blueprint(swagger.pages)
    return app


def _begin() -> Response | None:
    g.began = time.perf_counter()
    g.request_id = request_id_from(request.headers.get("X-Request-Id"))
    bind_request(g.request_id)
    if request.view_args and "job_id" in request.view_args:
        about_job(request.view_args["job_id"])
    traced.begin(context().platform.tracing, request, service=context().service)
    context().guard.check(request)
    return cors.preflight(request, context().guard.origins)


def _end(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if request.method == "OPTIONS" and response.status_code == 200:
        response.status_code = 204  # Flask's own answer is an empty page; what it says is in the Allow header
        response.headers.pop("Content-Type", None)
        response.headers.pop("Content-Length", None)
    cors.allow(request, response, context().guard.origins)
    response.headers["X-Request-Id"] = g.request_id
    traced.answered(response)
    seconds = time.perf_counter() - g.began
    route = _route(request)
    context().metrics.observe(
        service=context().service,
        method=request.method if request.method in METHODS else "other",
        route=route,
        status=response.status_code,
        seconds=seconds,
    )
    often = request.path in ASKED_OFTEN or request.path.startswith(AGENT_PREFIX)
    level = log.debug if often else log.info
    level("request", **_line(response, seconds))
    return response


def _line(response: Response, seconds: float) -> dict[str, Any]:
    return {
        "service": context().service,
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "ms": round(seconds * 1000, 1),
        "client": request.remote_addr,
    }


def _route(incoming: Request) -> str:
    return incoming.url_rule.rule if incoming.url_rule is not None else "none"


def _forget(_error: BaseException | None) -> None:
    traced.end()
    unbind_request()
