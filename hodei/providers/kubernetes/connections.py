"""Connections to an API server: what it has to show, what we show, and by which proxy."""

from __future__ import annotations

import ssl
import tempfile
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError
from hodei.providers.kubernetes.credentials import Proof
from hodei.providers.kubernetes.kubeconfig import Cluster


def pool_manager(cluster: Cluster, proof: Proof, *, keep: int) -> urllib3.PoolManager:
    """Connections to the cluster, of which so many are kept when idle. Raises ProviderError for certificates that are none."""
    options: dict[str, Any] = {"maxsize": keep, "block": False, "num_pools": 2}
    if cluster.server.startswith("https://"):
        options["ssl_context"] = _tls(cluster, proof)
        if cluster.insecure:
            options["assert_hostname"] = False
        elif cluster.server_name:
            options["server_hostname"] = cluster.server_name
    proxy = cluster.proxy_url or _proxy_of_environment(cluster.server)
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def _tls(cluster: Cluster, proof: Proof) -> ssl.SSLContext:
    """What the server has to show, and what we show. Raises NoCluster for certificates that are none."""
    try:
        if cluster.ca_data is not None:
            context = ssl.create_default_context(cadata=cluster.ca_data.decode())
        else:
            context = ssl.create_default_context(cafile=cluster.ca_file)
        strict = getattr(ssl, "VERIFY_X509_STRICT", 0)
        context.verify_flags &= ~strict  # the certificates of many clusters lack what RFC 5280 wants besides
        if cluster.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if proof.certificate and proof.key:
            _show(context, proof.certificate, proof.key)
    except (OSError, ValueError) as error:
        raise ProviderError(
            Failure(code="ERR_5001", message=f"The certificates of {cluster.source} cannot be used: {error}.")
        ) from error
    return context


def _show(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL reads a key from a file alone: this one is its owner's, and is there for this moment."""
    with tempfile.NamedTemporaryFile(prefix="hodei-", suffix=".pem") as file:
        file.write(certificate.rstrip() + b"\n" + key.rstrip() + b"\n")
        file.flush()
        context.load_cert_chain(file.name)


def _proxy_of_environment(server: str) -> str | None:
    parts = urlsplit(server)
    host = parts.hostname or ""
    if proxy_bypass(host) or host in {"localhost", "127.0.0.1", "::1"}:
        return None
    return getproxies().get(parts.scheme)
