"""What the API server adds to a new pod."""

from __future__ import annotations

from typing import Any

DEFAULT_GRACE_S = 30
_TOLERATED_S = 300
_NODE_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def fill_in(pod: dict[str, Any]) -> None:
    """The defaults of a pod and its containers; a request that is missing is the limit."""
    spec = pod.setdefault("spec", {})
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("securityContext", {})
    for container in all_containers(spec):
        _container(container)
    for volume in spec.get("volumes") or ():
        _volume(volume)
    _tolerations(spec)
    pod["status"] = {"phase": "Pending", "qosClass": quality(spec)}


def all_containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def quality(spec: dict[str, Any]) -> str:
    """``status.qosClass``."""
    resources = [container.get("resources") or {} for container in all_containers(spec)]
    if not any(part.get("requests") or part.get("limits") for part in resources):
        return "BestEffort"
    for part in resources:
        limits, requests = part.get("limits") or {}, part.get("requests") or {}
        if not {"cpu", "memory"} <= limits.keys() or any(
            requests.get(name) not in (None, limits[name]) for name in ("cpu", "memory")
        ):
            return "Burstable"
    return "Guaranteed"


def _container(container: dict[str, Any]) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    image = container.get("image", "")
    tag = image.rpartition("/")[2].partition("@")
    latest = not tag[1] and tag[0].partition(":")[2] in ("", "latest")
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    resources = container.setdefault("resources", {})
    if resources.get("limits"):
        resources["requests"] = resources["limits"] | (resources.get("requests") or {})
    for variable in container.get("env") or ():
        if field := (variable.get("valueFrom") or {}).get("fieldRef"):
            field.setdefault("apiVersion", "v1")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")


def _volume(volume: dict[str, Any]) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "projected", "downwardAPI"):
        if source in volume:
            volume[source].setdefault("defaultMode", 0o644)


def _tolerations(spec: dict[str, Any]) -> None:
    """How long a pod stays on a node that is away, unless it says so itself."""
    tolerations = spec.setdefault("tolerations", [])
    for taint in _NODE_TAINTS:
        if not any(one.get("key") in (taint, None, "") and _tolerates_eviction(one) for one in tolerations):
            one = {
                "key": taint,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": _TOLERATED_S,
            }
            tolerations.append(one)


def _tolerates_eviction(toleration: dict[str, Any]) -> bool:
    return toleration.get("effect") in ("NoExecute", None, "")
