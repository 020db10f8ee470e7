"""Where workers are made."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.routing import Routes
from hodei.api.schemas.common import ProviderPath
from hodei.api.schemas.places import Provider, ProviderHealth, ProviderList
from hodei.api.serialise import json_response
from hodei.services import providers

routes = Routes("providers", "ProviderManagementService")


@routes.route_of("GET", "/providers", {200: ProviderList})
def list_providers() -> Response:
    """List providers"""
    return json_response(providers.list_providers(platform()))


@routes.route_of("GET", "/providers/<provider_id>", {200: Provider})
def get_provider(path: ProviderPath) -> Response:
    """Look at a provider, by its id or name"""
    return json_response(providers.get_provider(platform(), path.provider_id))


@routes.route_of("GET", "/providers/<provider_id>/health", {200: ProviderHealth})
def check_provider(path: ProviderPath) -> Response:
    """Ask a provider now how it is"""
    return json_response(providers.check_provider(platform(), path.provider_id))
