"""Where workers are made."""

from __future__ import annotations

from flask import Response

from hodei.api.current import OPERATOR, platform
from hodei.api.once import key_of
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import OnceHeader, PageQuery, ProviderPath
from hodei.api.schemas.places import Provider, ProviderHealth, ProviderList, ProviderStats
from hodei.api.schemas.places_in import ProviderIn, ProviderPatch
from hodei.api.serialise import json_response
from hodei.domain.states import ProviderStatus
from hodei.services import provider_admin, providers

routes = Routes("providers", "ProviderManagementService")

_DELETED = {"description": "It is gone."}
_LOCATION = {"Location": {"description": "The provider's address.", "schema": {"type": "string"}}}


@routes.route_of("POST", "/providers", {201: described(Provider, headers=_LOCATION)}, problems=(409,))
def add_provider(header: OnceHeader, body: ProviderIn) -> Response:
    """Add a provider

    There may be several of one type. Its configuration is validated by its adapter; it is looked at before the answer.
    """
    key = key_of("POST /providers", header, body)
    added = provider_admin.add_provider(platform(), body.to_new_provider(), actor=OPERATOR, key=key)
    return json_response(added, 201, headers={"Location": f"/api/v1/providers/{added['id']}"})


@routes.route_of("GET", "/providers", {200: described(ProviderList, headers=LINK)})
def list_providers(query: PageQuery) -> Response:
    """List providers, in the order in which jobs are placed"""
    return page_response(providers.list_providers(platform(), cursor=query.cursor, limit=query.limit))


@routes.route_of("GET", "/providers/<provider_id>", {200: Provider})
def get_provider(path: ProviderPath) -> Response:
    """Look at a provider, by its id or name"""
    return json_response(providers.get_provider(platform(), path.provider_id))


@routes.route_of("PATCH", "/providers/<provider_id>", {200: Provider}, problems=(409,))
def change_provider(path: ProviderPath, body: ProviderPatch) -> Response:
    """Change a provider's configuration, priority, room, labels or status"""
    changed = provider_admin.change_provider(platform(), path.provider_id, body.to_change(), actor=OPERATOR)
    return json_response(changed)


@routes.route_of("DELETE", "/providers/<provider_id>", {204: _DELETED}, problems=(409,))
def remove_provider(path: ProviderPath) -> Response:
    """Remove a provider that no worker or job needs any more"""
    provider_admin.remove_provider(platform(), path.provider_id, actor=OPERATOR)
    return Response(status=204)


@routes.route_of("POST", "/providers/<provider_id>/enable", {200: Provider}, problems=(409,))
def enable_provider(path: ProviderPath) -> Response:
    """Switch a provider on: it is looked at, and gets work when it is well"""
    return _switched(path, ProviderStatus.ACTIVE)


@routes.route_of("POST", "/providers/<provider_id>/disable", {200: Provider}, problems=(409,))
def disable_provider(path: ProviderPath) -> Response:
    """Switch a provider off: it gets no new work; what runs there goes on"""
    return _switched(path, ProviderStatus.DISABLED)


def _switched(path: ProviderPath, status: ProviderStatus) -> Response:
    return json_response(provider_admin.set_status(platform(), path.provider_id, status, actor=OPERATOR))


@routes.route_of("GET", "/providers/<provider_id>/stats", {200: ProviderStats})
def get_provider_stats(path: ProviderPath) -> Response:
    """Count a provider's places, workers and jobs, now and in the last day"""
    return json_response(provider_admin.provider_stats(platform(), path.provider_id))


@routes.route_of("GET", "/providers/<provider_id>/health", {200: ProviderHealth})
def check_provider(path: ProviderPath) -> Response:
    """Ask a provider now how it is"""
    return json_response(providers.check_provider(platform(), path.provider_id))


@routes.route_of("POST", "/providers/<provider_id>/probe", {200: ProviderHealth}, problems=(409,))
def probe_provider(path: ProviderPath) -> Response:
    """Have a worker of the provider try whether it reaches worker-manager; up to about a minute"""
    return json_response(providers.probe_provider(platform(), path.provider_id))
