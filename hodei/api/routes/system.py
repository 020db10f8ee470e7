"""What every service says of itself: health, metrics, its description."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, request

from hodei import __version__
from hodei.api.current import context, platform
from hodei.api.description import DescribedApp
from hodei.api.guard import host_in
from hodei.api.routing import Routes, described
from hodei.api.schemas.job_out import Summary
from hodei.api.schemas.places import Health
from hodei.api.serialise import json_response
from hodei.errors import HodeiError
from hodei.observability.page import CONTENT_TYPE, page
from hodei.services import health, summary

summary_routes = Routes("summary", "MetricsService")
routes = Routes("system", "MetricsService", prefix="")
open_routes = Routes("open", "MetricsService", prefix="", security="")


@summary_routes.route_of("GET", "/metrics", {200: Summary})
def get_summary() -> Response:
    """The platform in numbers, as JSON"""
    return json_response(summary.summary(platform()))


@open_routes.route_of("GET", "/health", {200: Health, 503: described(Health)})
def get_health() -> Response:
    """Whether this service and what it needs are well

    200 also when `degraded`: it works, but something is away. 503 when it cannot work.
    """
    here = context()
    try:
        report = health.check(here.platform, here.service)
    except HodeiError as error:
        report = _down(here.service, error)
    return json_response(
        report | {"services": _addresses(here.ports)}, 503 if report["status"] == "down" else 200
    )


@routes.route_of(
    "GET",
    "/metrics",
    {200: {"description": "Prometheus metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_metrics() -> Response:
    """Metrics for Prometheus"""
    here = context()
    text = page(here.metrics.registry, here.platform.meters.registry, here.figures)
    return Response(text, content_type=CONTENT_TYPE)


@open_routes.route_of(
    "GET",
    "/openapi.json",
    {200: {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}},
)
def get_description() -> Response:
    """This description"""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    assert isinstance(app, DescribedApp)
    return json_response(app.api_doc)


def _down(service: str, error: HodeiError) -> dict[str, Any]:
    checks = {"database": {"ok": False, "message": error.message}}
    return {"status": "down", "service": service, "version": __version__, "checks": checks}


def _addresses(ports: dict[str, int]) -> dict[str, str]:
    host = host_in(request.host)
    shown = f"[{host}]" if ":" in host else host
    return {name.replace("-", "_"): f"http://{shown}:{port}" for name, port in ports.items()}
