"""Where the cluster is and who we are there: a kubeconfig's context, or the service account of the pod that we are in.

In this order: the file that is configured, the pod's own account, ``KUBECONFIG`` (one file, or several that are merged),
``~/.kube/config``.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoCluster(Exception):
    """There is no configuration, or it cannot be used. The text is a sentence for a person."""


@dataclass(frozen=True, kw_only=True)
class Exec:
    """A program that prints credentials (``client.authentication.k8s.io``)."""

    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    api_version: str = "client.authentication.k8s.io/v1"
    hint: str | None = None
    cluster_info: bool = False


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One context. What is secret is in no repr."""

    server: str
    source: str
    in_cluster: bool = False
    namespace: str | None = None
    ca_file: Path | None = None
    ca_data: bytes | None = field(default=None, repr=False)
    insecure: bool = False
    server_name: str | None = None
    proxy_url: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    exec: Exec | None = None


def find(path: Path | None, context: str | None, *, environment: dict[str, str] | None = None) -> Cluster:
    """The cluster to use. Raises NoCluster."""
    env = dict(os.environ) if environment is None else environment
    if path is not None:
        return read([path.expanduser()], context)
    if env.get("KUBERNETES_SERVICE_HOST") and (ACCOUNT / "token").exists() and context is None:
        return _account(env)
    named = [Path(part).expanduser() for part in env.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        return read(named, context)
    usual = Path.home() / ".kube" / "config"
    if usual.exists():
        return read([usual], context)
    raise NoCluster(
        "There is no Kubernetes here: no ~/.kube/config, and this is not a pod. Set HODEI_K8S_KUBECONFIG to use one."
    )


def _account(env: dict[str, str]) -> Cluster:
    host, port = env["KUBERNETES_SERVICE_HOST"], env.get("KUBERNETES_SERVICE_PORT") or "443"
    namespace = ACCOUNT / "namespace"
    return Cluster(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        source="the pod's service account",
        in_cluster=True,
        namespace=namespace.read_text().strip() if namespace.exists() else None,
        ca_file=ACCOUNT / "ca.crt",
        token_file=ACCOUNT / "token",
    )


def read(paths: list[Path], context: str | None) -> Cluster:
    """The context of these files; None: the current one. The first file that says something counts. Raises NoCluster."""
    import yaml

    source = os.pathsep.join(map(str, paths))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents: list[tuple[Path, dict[str, Any]]] = []
    for path in paths:
        try:
            document = yaml.load(path.read_bytes(), Loader=loader)  # a safe loader
        except FileNotFoundError:
            continue
        except (OSError, yaml.YAMLError) as error:
            words = error.strerror if isinstance(error, OSError) else "it is not YAML"
            raise NoCluster(f"The kubeconfig {path} cannot be read: {words}.") from error
        if isinstance(document, dict):
            documents.append((path, document))
    if not documents:
        raise NoCluster(f"There is no kubeconfig at {source}.")
    wanted = context or next(
        (doc["current-context"] for _, doc in documents if doc.get("current-context")), None
    )
    if wanted is None:
        raise NoCluster(
            f"The kubeconfig {source} has no current context; set HODEI_K8S_CONTEXT (kubectl config get-contexts)."
        )
    try:
        return _cluster(documents, str(wanted), source)
    except (TypeError, AttributeError, ValueError) as error:
        raise NoCluster(f"The kubeconfig {source} is not what kubectl writes: {error}.") from error


def _cluster(documents: list[tuple[Path, dict[str, Any]]], wanted: str, source: str) -> Cluster:
    chosen, _ = _named(documents, "contexts", wanted, "context", source)
    cluster, folder = _named(documents, "clusters", chosen.get("cluster"), "cluster", source)
    user, user_folder = (
        _named(documents, "users", chosen.get("user"), "user", source) if chosen.get("user") else ({}, folder)
    )
    if user.get("auth-provider"):
        raise NoCluster(
            f"The user {chosen['user']} of {source} uses an auth-provider, which Kubernetes has given up; use its exec plugin."
        )
    server = str(cluster.get("server") or "")
    if not server.startswith(("https://", "http://")):
        raise NoCluster(f"The cluster {chosen.get('cluster')} of {source} has no server URL.")
    return Cluster(
        server=server.rstrip("/"),
        source=f"{source}, context {wanted}",
        namespace=chosen.get("namespace"),
        ca_file=_path(cluster.get("certificate-authority"), folder),
        ca_data=_bytes(cluster.get("certificate-authority-data")),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        server_name=cluster.get("tls-server-name"),
        proxy_url=cluster.get("proxy-url"),
        token=user.get("token"),
        token_file=_path(user.get("tokenFile"), user_folder),
        username=user.get("username"),
        password=user.get("password"),
        certificate=_content(user, "client-certificate", user_folder),
        key=_content(user, "client-key", user_folder),
        exec=_exec(user["exec"], user_folder) if user.get("exec") else None,
    )


def _named(
    documents: list[tuple[Path, dict[str, Any]]], kind: str, name: Any, key: str, source: str
) -> tuple[dict[str, Any], Path]:
    for path, document in documents:
        for entry in document.get(kind) or ():
            if entry.get("name") == name:
                return entry.get(key) or {}, path.parent
    have = ", ".join(
        str(entry.get("name")) for _, document in documents for entry in document.get(kind) or ()
    )
    raise NoCluster(f"The kubeconfig {source} has no {key} {name!r}; it has: {have or 'none'}.")


def _exec(entry: dict[str, Any], folder: Path) -> Exec:
    command = str(entry["command"])
    if "/" in command and not command.startswith("/"):
        command = str(folder / command)
    return Exec(
        command=command,
        args=tuple(map(str, entry.get("args") or ())),
        env=tuple((str(item["name"]), str(item["value"])) for item in entry.get("env") or ()),
        api_version=str(entry.get("apiVersion") or Exec.api_version),
        hint=entry.get("installHint"),
        cluster_info=bool(entry.get("provideClusterInfo")),
    )


def _path(text: str | None, folder: Path) -> Path | None:
    """Paths in a kubeconfig are relative to it."""
    return None if not text else folder / text


def _bytes(text: str | None) -> bytes | None:
    return None if not text else base64.b64decode(text)


def _content(user: dict[str, Any], name: str, folder: Path) -> bytes | None:
    data = _bytes(user.get(f"{name}-data"))
    path = _path(user.get(name), folder)
    if data is not None or path is None:
        return data
    try:
        return path.read_bytes()
    except OSError as error:
        raise NoCluster(f"{path}, which the kubeconfig names, cannot be read: {error.strerror}.") from error
