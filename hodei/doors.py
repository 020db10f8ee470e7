"""On which addresses worker-manager listens for workers, besides its own."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from urllib.parse import urlsplit

from hodei.errors import ConfigurationError
from hodei.ports import Platform
from hodei.providers.contract import ProviderError
from hodei.providers.reach import is_own_address
from hodei.storage.transaction import Row

USUAL_BRIDGE = "172.17.0.1"
"""Where Docker puts its bridge when nobody says otherwise."""


def bridge_binds(platform: Platform) -> Iterable[tuple[str, int, bool]]:
    """The addresses on which containers and pods reach this machine, and whether one of theirs may stand for many workers, as
    a node's does. None for a provider that is away.

    A Kubernetes provider gets its door when it is well, which takes a namespace that was set up for us: a kubeconfig
    that happens to be there opens nothing to the network.
    """
    if platform.settings.agent_bind is not None:
        return [_agent_bind(platform.settings.agent_bind)]
    if platform.settings.server_host is not None or not platform.settings.provider_access:
        return []  # the operator has said where workers find us
    with platform.database.begin() as tx:
        rows = [row for row in tx.rows("provider_list") if row.status != "DISABLED"]
    well = [row for row in rows if row.provider_type == "kubernetes" and row.status in ("ACTIVE", "DEGRADED")]
    shared = {_pods_door(platform, row) for row in well} - {None}
    own = {_gateway(platform, row) for row in rows if row.provider_type == "docker"} - {None} - shared
    return [(address, 0, address in shared) for address in (*shared, *own) if address]


def _agent_bind(text: str) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ConfigurationError(
            f"HODEI_AGENT_BIND={text!r} is not a host or host:port such as 172.17.0.1:8082.",
            field="HODEI_AGENT_BIND",
        )
    return host, port or 0, False


def _pods_door(platform: Platform, row: Row) -> str | None:
    from hodei.providers.kubernetes.provider import KubernetesProvider

    try:
        provider = platform.providers.get(row.id)
    except ProviderError:
        return None
    return provider.door() if isinstance(provider, KubernetesProvider) else None


def _gateway(platform: Platform, row: Row) -> str | None:
    """Docker's bridge, if it is an address of this machine. As a health check has found it, in whatever process; else Docker is
    asked. One that is away may come up after us, where it was, or where it usually is."""
    is_away = row.status not in ("ACTIVE", "DEGRADED")
    gateway: str | None = row.capabilities.get("host_gateway")
    if gateway is None:
        from hodei.providers.docker.provider import DockerProvider

        try:
            provider = platform.providers.get(row.id)
            gateway = provider.bridge_gateway() if isinstance(provider, DockerProvider) else None
        except ProviderError:
            is_away, gateway = True, USUAL_BRIDGE
    if gateway is None or is_own_address(gateway):
        return gateway
    return gateway if is_away and sys.platform == "linux" else None
