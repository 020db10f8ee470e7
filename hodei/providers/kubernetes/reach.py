"""The way back: the address by which pods reach worker-manager, and on which it has to listen for them."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from urllib.parse import urlsplit

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError
from hodei.providers.kubernetes.api import ApiError, ApiServer
from hodei.providers.kubernetes.kubeconfig import Cluster, NoCluster
from hodei.providers.reach import server_url

TRUSTED_S = 60.0
QUICK_S = 2.0
ELSEWHERE = ("203.0.113.1", 9)
"""An address that nobody has (RFC 5737): the route to it is the default route. Nothing is sent."""


class WayBack:
    """Found once a minute: ``HODEI_SERVER_HOST``; in the cluster, the service of worker-manager; from outside, our
    address as the nodes see it.
    """

    def __init__(self, api: ApiServer, *, server_host: str | None, port: int, service: str) -> None:
        self._api = api
        self._server_host = server_host
        self._port = port
        self._service = service
        self._lock = threading.Lock()
        self._found: tuple[float, str, str] | None = None

    def url(self) -> str:
        """The URL for the pods' ``HODEI_SERVER``. Raises ProviderError (ERR_3003) when there is none to be found."""
        if self._server_host is not None:
            return server_url(self._server_host, self._port, "kubernetes")
        cluster = self._cluster()
        if cluster.in_cluster:
            name, _, namespace = self._service.partition(".")
            return f"http://{name}.{namespace or cluster.namespace or 'default'}.svc:{self._port}"
        address = self.address()
        return f"http://{f'[{address}]' if ':' in address else address}:{self._port}"

    def address(self) -> str:
        """This machine's address, as the nodes see it, or this pod's. Raises ProviderError."""
        with self._lock:
            found = self._found
        server = self._cluster().server
        if found is not None and found[1] == server and time.monotonic() - found[0] < TRUSTED_S:
            return found[2]
        address = self._find(server)
        if address is None:
            message = "No address was found by which the cluster's nodes reach this machine; set HODEI_SERVER_HOST to one."
            raise ProviderError(Failure(code="ERR_3003", message=message))
        with self._lock:
            self._found = (time.monotonic(), server, address)
        return address

    def _cluster(self) -> Cluster:
        try:
            return self._api.cluster()
        except NoCluster as error:
            raise ProviderError(Failure(code="ERR_5001", message=str(error)), transient=True) from error

    def _find(self, server: str) -> str | None:
        parts = urlsplit(server)
        host, port = parts.hostname or "", parts.port or 443
        towards_server = local_address(host, port)
        if towards_server is not None and not _is_loopback(towards_server):
            return towards_server
        for node in self._nodes():
            towards_node = local_address(node, port)
            if towards_node is not None and not _is_loopback(towards_node):
                return towards_node
        return local_address(*ELSEWHERE)

    def _nodes(self) -> list[str]:
        """Where nodes are, when the API server is behind a port of our own and we may look at them.

        Never by where our pods are: the address may not change with the first pod, workers go on asking at the one they know.
        """
        try:
            items = self._api.get("/api/v1/nodes", timeout_s=QUICK_S, limit=5).get("items") or ()
        except (ApiError, ProviderError):
            return []  # we may not, or it does not answer now
        return [address for address in map(_internal_address, items) if address]


def local_address(host: str, port: int) -> str | None:
    """The address of ours from which that host would be spoken to; None when there is no way to it. Sends nothing."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _internal_address(node: dict) -> str | None:
    addresses = (node.get("status") or {}).get("addresses") or ()
    return next((each["address"] for each in addresses if each["type"] == "InternalIP"), None)
