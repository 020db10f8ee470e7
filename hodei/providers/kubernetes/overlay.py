"""The operator's pod template, laid over the pods that we make as Kubernetes' strategic merge patch does it. Pure.

Objects are merged, key by key; null removes. Lists of named things (containers, volumes, their mounts, variables, pull
secrets, …) are merged by the key that names them, and other lists are replaced, tolerations are added. ``$patch``
directives are not known here.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

WORKER = "worker"
AGENT = "agent"

_MERGED_BY = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "claims": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
_ADDED = {"tolerations", "supplementalGroups", "envFrom"}

_POD_SPEC = frozenset(
    {"affinity", "containers", "dnsConfig", "dnsPolicy", "hostAliases", "hostUsers", "hostname", "imagePullSecrets",
     "initContainers", "nodeName", "nodeSelector", "os", "overhead", "preemptionPolicy", "priorityClassName",
     "resourceClaims", "resources", "runtimeClassName", "schedulerName", "securityContext", "serviceAccountName",
     "setHostnameAsFQDN", "subdomain", "tolerations", "topologySpreadConstraints", "volumes"}
)  # fmt: skip
"""What a template may say of a pod. The rest (restartPolicy, the token of the service account, the host's namespaces, …)
is ours.
"""

_WORKER_FIELDS = frozenset(
    {
        "name",
        "env",
        "envFrom",
        "imagePullPolicy",
        "resources",
        "securityContext",
        "volumeDevices",
        "volumeMounts",
    }
)
_OURS = frozenset({"HODEI_SERVER", "HODEI_TOKEN", "HODEI_WORKER_ID"})


def lay_over(document: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
    """A new document: ``template`` over ``document``. Neither is changed."""
    merged = dict(document)
    for key, value in template.items():
        before = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(before, dict):
            merged[key] = lay_over(before, value)
        elif isinstance(value, list) and isinstance(before, list) and key in _MERGED_BY:
            merged[key] = _by_name(before, value, _MERGED_BY[key])
        elif isinstance(value, list) and isinstance(before, list) and key in _ADDED:
            merged[key] = [*before, *deepcopy(value)]
        else:
            merged[key] = deepcopy(value)
    return merged


def _by_name(before: list[Any], patch: list[Any], name: str) -> list[Any]:
    merged = list(before)
    places = {item.get(name): place for place, item in enumerate(merged)}
    for item in patch:
        place = places.get(item.get(name))
        if place is None:
            merged.append(deepcopy(item))
        else:
            merged[place] = lay_over(merged[place], item)
    return merged


def check(template: dict[str, Any]) -> None:
    """Whether this can be laid over a worker's pod. Raises ValueError with a sentence."""
    _only(template, {"metadata", "spec"}, "pod_template")
    metadata = _object(template.get("metadata"), "pod_template.metadata")
    _only(metadata, {"labels", "annotations"}, "pod_template.metadata")
    from hodei.providers.kubernetes.config import refuse_reserved

    for name in ("labels", "annotations"):
        refuse_reserved(_object(metadata.get(name), f"pod_template.metadata.{name}"))
    spec = _object(template.get("spec"), "pod_template.spec")
    _only(spec, _POD_SPEC, "pod_template.spec")
    for key in spec.keys() & _MERGED_BY.keys():
        _named_items(spec[key], f"pod_template.spec.{key}", _MERGED_BY[key])
    for container in spec.get("containers") or ():
        _check_worker(container)
    for container in spec.get("initContainers") or ():
        if container["name"] == AGENT:
            _only(container, _WORKER_FIELDS, f"pod_template.spec.initContainers.{AGENT}")


def _check_worker(container: dict[str, Any]) -> None:
    where = "pod_template.spec.containers"
    if container["name"] != WORKER:
        raise ValueError(
            f"{where}: a pod ends with its container {WORKER!r}; others go into initContainers, with restartPolicy Always"
        )
    _only(container, _WORKER_FIELDS, f"{where}.{WORKER}")
    for key in container.keys() & _MERGED_BY.keys():
        _named_items(container[key], f"{where}.{WORKER}.{key}", _MERGED_BY[key])
    taken = {variable["name"] for variable in container.get("env") or ()} & _OURS
    if taken:
        raise ValueError(f"{where}.{WORKER}.env: {', '.join(sorted(taken))} is the agent's own")


def _named_items(items: Any, where: str, name: str) -> None:
    if not isinstance(items, list) or not all(isinstance(item, dict) and item.get(name) for item in items):
        raise ValueError(f"{where} is a list of objects, each with its {name}")


def _object(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")
    return value


def _only(document: dict[str, Any], known: frozenset[str] | set[str], where: str) -> None:
    unknown = sorted(set(document) - known)
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)} cannot be set; what can: {', '.join(sorted(known))}")
