"""The stand-in as a whole: its store, its API, its node, and what tests may do to them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

from support.k8s_stand_in import certificates, kubeconfig, manifests, metadata, node
from support.k8s_stand_in.accounts import Accounts, User, admin
from support.k8s_stand_in.api import Api
from support.k8s_stand_in.engine import LABEL, Engine
from support.k8s_stand_in.faults import Faults
from support.k8s_stand_in.garbage import GarbageCollector, NamespaceController
from support.k8s_stand_in.kubelet import Kubelet
from support.k8s_stand_in.node import NodeLife
from support.k8s_stand_in.resources import NAMESPACES, NODES
from support.k8s_stand_in.scheduler import Scheduler
from support.k8s_stand_in.server import Server
from support.k8s_stand_in.store import Object, Store
from support.k8s_stand_in.surroundings import Surroundings

SHIPPED = Path(__file__).resolve().parents[3] / "deploy" / "kubernetes"
WORKERS = "hodei-jobs-workers"
CONTROL_PLANE = "control-plane"
ADMIN = "admin"


class StandInCluster:
    """One cluster of one node. Use it as a context manager.

    ``shipped`` are the manifests that are applied before anybody asks, by default those in ``deploy/kubernetes``; ``cpu`` and
    ``memory`` are what the node offers. ``back_off_words`` False: as kubelets before 1.31, which say the cause of a failed
    pull only until the back-off begins. ``faults`` and ``node`` are there for tests to do harm with.
    """

    def __init__(
        self,
        *,
        shipped: list[dict[str, Any]] | None = None,
        port: int = 0,
        cpu: str = "16",
        memory: str = "64Gi",
        pull_back_off_s: float = 12.0,
        back_off_words: bool = True,
    ) -> None:
        self.manifests = list(manifests.documents(SHIPPED)) if shipped is None else shipped
        self.folder = Path(tempfile.mkdtemp(prefix="k8s-stand-in-"))
        self.folder.chmod(0o711)  # the containers' mounts pass through it
        self.store = Store()
        self.accounts = Accounts()
        self.faults = Faults()
        self.engine = Engine()
        self.node = NodeLife(self.store)
        self.control_plane = manifests.bound_account(self.manifests)
        self.admin = admin()
        self._running = True
        self._capacity = {"cpu": cpu, "memory": memory}
        self._pull_back_off_s = pull_back_off_s
        self._back_off_words = back_off_words
        self._port = port
        self._label = f"{os.getpid()}-{_born(os.getpid())}-{self.folder.name}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self.folder)
            self.engine.close()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self._running = False
        self.kubelet.stop()
        for controller in self._controllers:
            controller.stop()
        self.server.stop()
        for container in self.engine.named(f"{LABEL}={self._label}"):
            self.engine.remove(container)
        self.engine.close()
        shutil.rmtree(self.folder)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.port}"

    def kubeconfig(self, current: str = CONTROL_PLANE) -> Path:
        """A file with a context for the control plane's account and one for the administrator's."""
        tokens = {
            CONTROL_PLANE: self.accounts.token(self.control_plane),
            ADMIN: self.accounts.token(self.admin),
        }
        return kubeconfig.write(
            self.folder / f"{current}.kubeconfig",
            server=self.url,
            authority=self.authority,
            tokens=tokens,
            current=current,
            namespace=WORKERS,
        )

    def in_cluster_files(self, user: User | None = None) -> Path:
        """A folder as pods find it at ``/var/run/secrets/kubernetes.io/serviceaccount``."""
        user = user or self.control_plane
        folder = self.folder / "in-cluster"
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(self.accounts.token(user))
        (folder / "ca.crt").write_bytes(self.authority)
        (folder / "namespace").write_text(user.name.split(":")[2])
        return folder

    def evict(self, pod: str, *, namespace: str = WORKERS) -> None:
        """The node is short of disk, and ends the pod."""
        words = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 512Mi. "
        self.kubelet.run_of(namespace, pod).fate.evict(words)

    def containers_of(self, pod: str) -> list[str]:
        """The ids of the containers that stand for this pod's, running or not, even when the pod's object is gone."""
        return self.engine.named(f"{LABEL}.pod={pod}")

    def crash(self, pod: str, *, namespace: str = WORKERS) -> None:
        """Kill the first process of each of the pod's containers."""
        self.kubelet.run_of(namespace, pod).kill()

    def _start(self) -> None:
        _sweep(self.engine)
        self.address = self.engine.address_of_this_machine()
        around = Surroundings(
            store=self.store,
            node=self.node,
            engine=self.engine,
            folder=self.folder / "pods",
            address=self.address,
            label=self._label,
            pull_back_off_s=self._pull_back_off_s,
            back_off_words=self._back_off_words,
        )
        self.kubelet = Kubelet(around)
        api = Api(
            self.store,
            self.accounts,
            self.faults,
            read_log=self.kubelet.read_log,
            alive=lambda: self._running,
        )
        context, self.authority = certificates.server_context(self.folder, ["127.0.0.1", self.address])
        self.server = Server(api, self.accounts, self.faults, context, self._port)
        for name in ("default", "kube-system"):
            manifests.apply(
                self.store, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}]
            )
        manifests.apply(self.store, self.manifests)
        self.store.create(NODES, node.make(address=self.address, **self._capacity))
        self._controllers = [
            NamespaceController(self.store),
            GarbageCollector(self.store),
            Scheduler(self.store),
        ]
        self._controllers[0].sync()  # every namespace has its account before the first request
        for controller in (*self._controllers, self.kubelet):
            controller.start()
        self.server.start()

    def namespace(self, name: str, labels: dict[str, str] | None = None) -> Object:
        """One more namespace, with its account, at once."""
        item: Object = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name} | (labels or {})},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }
        metadata.stamp(item, "")
        made = self.store.create(NAMESPACES, item)
        self._controllers[0].sync()
        return made


def _sweep(engine: Engine) -> None:
    """Remove the containers, and their volumes, of stand-ins whose process was killed."""
    for container, label in engine.labels().items():
        pid, born, folder = label.split("-", 2)
        if _born(int(pid)) != born:
            engine.remove(container)
            shutil.rmtree(Path(tempfile.gettempdir(), folder), ignore_errors=True)


def _born(pid: int) -> str:
    """When the process began, in the kernel's ticks; empty: there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
