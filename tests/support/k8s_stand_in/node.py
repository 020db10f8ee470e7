"""The one node: what it has, and whether it answers."""

from __future__ import annotations

from typing import Any

from support.k8s_stand_in import clock, metadata
from support.k8s_stand_in.resources import NODES, PODS
from support.k8s_stand_in.store import Object, Store

NAME = "k8s-stand-in-node"
UNREACHABLE = "node.kubernetes.io/unreachable"
_SILENT = "Kubelet stopped posting node status."


def make(*, address: str, cpu: str, memory: str, pods: int = 110) -> Object:
    """``address`` is this machine's as the pods see it."""
    capacity = {"cpu": cpu, "memory": memory, "pods": str(pods), "ephemeral-storage": "100Gi"}
    node: Object = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NAME,
            "labels": {
                "kubernetes.io/hostname": NAME,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
        "spec": {},
        "status": {
            "capacity": capacity,
            "allocatable": dict(capacity),
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": NAME}],
            "conditions": [_condition("True", "KubeletReady", "kubelet is posting ready status")],
            "nodeInfo": {"kubeletVersion": "v1.31.0", "operatingSystem": "linux", "architecture": "amd64"},
        },
    }
    metadata.stamp(node, "")
    return node


def _condition(status: str, reason: str, message: str) -> dict[str, Any]:
    now = clock.now()
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


class NodeLife:
    """Loses the node and brings it back, as the node controller and the taint manager see it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.answers = True

    def lose(self, *, tolerated: bool = True) -> None:
        """The kubelet falls silent, and with it every pod: NotReady, tainted.

        A pod is marked for deletion once its tolerations are over, at once with ``tolerated`` False; it stays there,
        Terminating, because nobody confirms its end.
        """
        self.answers = False

        def silent(node: Object) -> None:
            node["status"]["conditions"] = [_condition("Unknown", "NodeStatusUnknown", _SILENT)]
            now = clock.now()
            node["spec"]["taints"] = [
                {"key": UNREACHABLE, "effect": effect, "timeAdded": now}
                for effect in ("NoSchedule", "NoExecute")
            ]

        self._store.update(NODES, "", NAME, silent)
        for pod in self._store.list(PODS):
            if pod["spec"].get("nodeName") == NAME and pod["status"]["phase"] not in ("Succeeded", "Failed"):
                self._mark(pod, evict=not tolerated or _tolerated_s(pod["spec"]) == 0)

    def remove(self) -> None:
        """The node's object is deleted: the pods that were on it go, as the pod garbage collector says it."""
        self.answers = False
        self._store.remove(NODES, "", NAME)
        for pod in self._store.list(PODS):
            if pod["spec"].get("nodeName") == NAME:
                meta = pod["metadata"]

                def orphaned(found: Object) -> None:
                    found["status"]["phase"] = "Failed"
                    _disrupt(found, "DeletionByPodGC", "PodGC: node no longer exists")

                self._store.update(PODS, meta["namespace"], meta["name"], orphaned)
                self._store.remove(PODS, meta["namespace"], meta["name"], uid=meta["uid"])

    def find(self) -> None:
        """It answers again."""
        self.answers = True

        def ready(node: Object) -> None:
            node["status"]["conditions"] = [
                _condition("True", "KubeletReady", "kubelet is posting ready status")
            ]
            node["spec"].pop("taints", None)

        self._store.update(NODES, "", NAME, ready)

    def _mark(self, pod: Object, *, evict: bool) -> None:
        def change(found: Object) -> None:
            for condition in found["status"].get("conditions") or ():
                if condition["type"] == "Ready":
                    condition |= {
                        "status": "False",
                        "reason": "NodeNotReady",
                        "lastTransitionTime": clock.now(),
                    }
            if evict:
                _disrupt(found, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
                found["status"] |= {
                    "reason": "NodeLost",
                    "message": f"Node {NAME} which was running pod {found['metadata']['name']} is unresponsive",
                }
                grace_s = found["spec"]["terminationGracePeriodSeconds"]
                found["metadata"] |= {
                    "deletionTimestamp": clock.in_seconds(grace_s),
                    "deletionGracePeriodSeconds": grace_s,
                }

        meta = pod["metadata"]
        self._store.update(PODS, meta["namespace"], meta["name"], change)


def _disrupt(pod: Object, reason: str, message: str) -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    condition |= {"lastProbeTime": None, "lastTransitionTime": clock.now()}
    pod["status"].setdefault("conditions", []).append(condition)


def _tolerated_s(spec: dict[str, Any]) -> float | None:
    """How long the pod stays on a node that is away; None: for ever."""
    found = [
        one.get("tolerationSeconds")
        for one in spec.get("tolerations") or ()
        if one.get("key") in (UNREACHABLE, None, "") and one.get("effect") in ("NoExecute", None, "")
    ]
    if not found:
        return 0
    return None if None in found else min(float(one) for one in found if one is not None)
