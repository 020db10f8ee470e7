"""What a view needs of the app that it runs in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import current_app

from hodei.api.guard import Guard
from hodei.observability.metrics import HttpMetrics
from hodei.observability.page import PlatformFigures

if TYPE_CHECKING:
    from hodei.ports import Platform

EXTENSION = "hodei"
OPERATOR = "operator"
"""The actor of what people and programs ask for over HTTP."""


@dataclass(kw_only=True)
class Context:
    """The platform behind an app, the service it is, and the ports of its siblings."""

    platform: Platform
    service: str
    guard: Guard
    metrics: HttpMetrics
    figures: PlatformFigures
    ports: dict[str, int] = field(default_factory=dict)


def context() -> Context:
    """The context of the app that handles this request."""
    return current_app.extensions[EXTENSION]


def platform() -> Platform:
    """The platform that this request is for."""
    return context().platform
