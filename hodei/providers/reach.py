"""The address by which workers reach worker-manager."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from hodei.errors import ConfigurationError

_USUAL_HOSTS = {"docker": "host.docker.internal"}
"""Pods have no usual one: their provider finds it."""


def server_url(server_host: str | None, worker_manager_port: int, provider_type: str) -> str:
    """The URL for workers of this type of provider; ``server_host`` is ``HODEI_SERVER_HOST``: host, host:port
    or URL.

    Without a port it is worker-manager's own, except in an https URL, where it is https' own. Raises
    ConfigurationError.
    """
    if not server_host:
        return f"http://{_USUAL_HOSTS.get(provider_type, '127.0.0.1')}:{worker_manager_port}"
    text = server_host.strip()
    if text.count(":") > 1 and "://" not in text and not text.startswith("["):
        text = f"[{text}]"  # a bare IPv6 address
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in {"http", "https"} or parts.username or parts.query or parts.fragment:
        raise ConfigurationError(
            f"HODEI_SERVER_HOST={server_host!r} is not a host, host:port or URL such as http://10.0.0.5:8082.",
            field="HODEI_SERVER_HOST",
        )
    shown = f"[{host}]" if ":" in host else host
    if port is None and parts.scheme == "http":
        port = worker_manager_port
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def is_own_address(address: str) -> bool:
    """Whether this machine, as this process sees it, has the IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
