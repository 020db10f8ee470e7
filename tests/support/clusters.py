"""The Kubernetes cluster that tests use: the stand-in, or with ``HODEI_K8S_TEST=1`` the one of ``KUBECONFIG``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from support.k8s_stand_in import kubeconfig, manifests
from support.k8s_stand_in.cluster import ADMIN, SHIPPED, WORKERS, StandInCluster

TOKEN_S = 6 * 3600


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """``control_plane`` is a kubeconfig with the rights that are shipped, ``admin`` one that may do all.

    ``address`` is this machine's, as pods reach it. ``stand_in`` None: the cluster is real.
    """

    control_plane: Path
    admin: Path
    address: str
    core: client.CoreV1Api
    stand_in: StandInCluster | None

    def pods(self, selector: str = "", *, namespace: str = WORKERS) -> list[client.V1Pod]:
        return list(self.core.list_namespaced_pod(namespace, label_selector=selector).items)

    def secrets(self, selector: str = "", *, namespace: str = WORKERS) -> list[client.V1Secret]:
        return list(self.core.list_namespaced_secret(namespace, label_selector=selector).items)

    def pod(self, name: str) -> client.V1Pod | None:
        try:
            return self.core.read_namespaced_pod(name, WORKERS)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def document(self, name: str) -> dict[str, Any]:
        """The pod as the API writes it."""
        found: dict[str, Any] = self.core.api_client.sanitize_for_serialization(self.pod(name))
        return found

    def traces(self, name: str) -> list[str]:
        """All that is there by the name of a worker: pod, Secret, and what runs for it."""
        found = [f"pod {pod.metadata.name}" for pod in self.pods() if pod.metadata.name == name]
        found += [f"Secret {one.metadata.name}" for one in self.secrets() if one.metadata.name == name]
        if self.stand_in is not None:
            found += [f"container {one}" for one in self.stand_in.containers_of(name)]
        return found

    def remove(self, name: str) -> None:
        """Delete a worker's pod and Secret, if they are there."""
        for delete in (self.core.delete_namespaced_pod, self.core.delete_namespaced_secret):
            try:
                delete(name, WORKERS, grace_period_seconds=1)
            except ApiException as error:
                if error.status != 404:
                    raise

    def load(self, image: str) -> None:
        """Bring an image of the local engine to the nodes: with ``K8S_LOAD_IMAGE``, a command that takes its name."""
        if self.stand_in is not None:
            return
        command = os.environ.get("K8S_LOAD_IMAGE")
        if command is None:
            pytest.skip("K8S_LOAD_IMAGE names no command that loads an image into the nodes")
        subprocess.run([*command.split(), image], check=True, stdout=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        """Kill the first process of the pod's containers, without a word to the cluster."""
        if self.stand_in is not None:
            self.stand_in.crash(name)
            return
        pod = self.pod(name)
        assert pod is not None
        os.kill(min(_processes(pod.metadata.uid)), signal.SIGKILL)


@contextlib.contextmanager
def stand_in_cluster(**options: Any) -> Iterator[Cluster]:
    """A stand-in of the test's own."""
    with StandInCluster(**options) as made:
        admin = made.kubeconfig(ADMIN)
        with talking(admin) as core:
            yield Cluster(
                control_plane=made.kubeconfig(), admin=admin, address=made.address, core=core, stand_in=made
            )


@contextlib.contextmanager
def real_cluster(folder: Path) -> Iterator[Cluster]:
    """The cluster of ``KUBECONFIG``, with the shipped manifests applied, which stay there."""
    admin = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    subprocess.run(
        ["kubectl", "--kubeconfig", str(admin), "apply", "-f", str(SHIPPED)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with talking(admin) as core:
        control_plane = _with_the_shipped_rights(core, folder)
        node = core.list_node().items[0]
        internal = next(one.address for one in node.status.addresses if one.type == "InternalIP")
        yield Cluster(
            control_plane=control_plane,
            admin=admin,
            address=_our_address_towards(internal),
            core=core,
            stand_in=None,
        )


@contextlib.contextmanager
def talking(path: Path) -> Iterator[client.CoreV1Api]:
    api = config.new_client_from_config(str(path))
    try:
        yield client.CoreV1Api(api)
    finally:
        api.rest_client.pool_manager.clear()
        api.close()


def _with_the_shipped_rights(core: client.CoreV1Api, folder: Path) -> Path:
    """A kubeconfig of the account that the shipped RoleBinding names."""
    _, _, namespace, account = manifests.bound_account(list(manifests.documents(SHIPPED))).name.split(":")
    request = client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=TOKEN_S)
    )
    token = core.create_namespaced_service_account_token(account, namespace, request).status.token
    settings = core.api_client.configuration
    authority = Path(settings.ssl_ca_cert).read_bytes()
    return kubeconfig.write(
        folder / "control-plane.kubeconfig",
        server=settings.host,
        authority=authority,
        tokens={"control-plane": token},
        current="control-plane",
        namespace=WORKERS,
    )


def _our_address_towards(host: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])


def _processes(uid: str) -> Iterator[int]:
    """The agents of a pod, where its node is this machine: cgroups are named by the pod's uid."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            groups = (path / "cgroup").read_text().replace("_", "-")
            if f"pod{uid}" in groups and b"hodei_agent" in (path / "cmdline").read_bytes():
                yield int(path.name)
