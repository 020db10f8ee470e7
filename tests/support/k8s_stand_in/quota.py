"""ResourceQuotas: what is used of them, and the refusal of what exceeds one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from support.k8s_stand_in import quantities, refusals
from support.k8s_stand_in.pod_defaults import all_containers
from support.k8s_stand_in.resources import ALL, PODS, QUOTAS, Resource
from support.k8s_stand_in.store import Store

_ENDED = ("Succeeded", "Failed")
_COMPUTE = ("cpu", "memory", "ephemeral-storage")


def check(store: Store, resource: Resource, namespace: str, item: dict[str, Any]) -> None:
    """Whether the new object fits; Raises Forbidden. Hold ``store.changed``."""
    name = item["metadata"]["name"]
    for quota in store.list(QUOTAS, namespace):
        hard = quota["spec"].get("hard") or {}
        asked = usage(resource, item, hard)
        if not asked:
            continue
        if resource is PODS and (missing := _unsaid(item["spec"], hard)):
            why = f"failed quota: {quota['metadata']['name']}: must specify {missing}"
            raise refusals.forbidden(resource.group, resource.plural, name, why)
        used = used_of(store, quota)
        over = [key for key, value in asked.items() if used[key] + value > quantities.amount(hard[key])]
        if over:
            shown = {
                "requested": [f"{key}={quantities.written(asked[key], hard[key])}" for key in sorted(over)],
                "used": [f"{key}={quantities.written(used[key], hard[key])}" for key in sorted(over)],
                "limited": [f"{key}={hard[key]}" for key in sorted(over)],
            }
            amounts = ", ".join(f"{title}: {','.join(parts)}" for title, parts in shown.items())
            why = f"exceeded quota: {quota['metadata']['name']}, {amounts}"
            raise refusals.forbidden(resource.group, resource.plural, name, why)


def used_of(store: Store, quota: dict[str, Any]) -> dict[str, Decimal]:
    """What the namespace uses of each resource that the quota limits."""
    hard = quota["spec"].get("hard") or {}
    total = {key: Decimal(0) for key in hard}
    for resource in ALL:
        if resource.namespaced and resource.stored:
            for item in store.list(resource, quota["metadata"]["namespace"]):
                for key, value in usage(resource, item, hard).items():
                    total[key] += value
    return total


def status_of(store: Store, quota: dict[str, Any]) -> dict[str, Any]:
    hard = quota["spec"].get("hard") or {}
    used = used_of(store, quota)
    return {"hard": hard, "used": {key: quantities.written(used[key], hard[key]) for key in hard}}


def usage(resource: Resource, item: dict[str, Any], hard: dict[str, str]) -> dict[str, Decimal]:
    """What one object takes of the resources in ``hard``; a pod that has ended takes only its place in the store."""
    found: dict[str, Decimal] = {}
    qualified = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    if f"count/{qualified}" in hard:
        found[f"count/{qualified}"] = Decimal(1)
    ended = resource is PODS and (item.get("status") or {}).get("phase") in _ENDED
    if resource.plural in hard and not ended:
        found[resource.plural] = Decimal(1)
    if resource is PODS and not ended:
        for key in hard:
            part = _compute(key)
            if part is not None:
                found[key] = requested(item["spec"], part[1], part[0])
    return found


def requested(spec: dict[str, Any], name: str, kind: str = "requests") -> Decimal:
    """What a pod asks for: the sum over its containers, or its hungriest init container."""

    def of(container: dict[str, Any]) -> Decimal:
        return quantities.amount(((container.get("resources") or {}).get(kind) or {}).get(name, "0"))

    first = max((of(container) for container in spec.get("initContainers") or ()), default=Decimal(0))
    return max(first, sum((of(container) for container in spec["containers"]), Decimal(0)))


def _compute(key: str) -> tuple[str, str] | None:
    """``limits.cpu`` → its kind and name; None for what is no amount of a container's."""
    kind, dot, name = key.partition(".")
    if dot and kind in ("requests", "limits"):
        return kind, name
    return ("requests", key) if key in _COMPUTE else None


def _unsaid(spec: dict[str, Any], hard: dict[str, str]) -> str:
    """The amounts that the quota limits and a container does not say."""
    said = []
    for key in sorted(hard):
        part = _compute(key)
        if part is None or part[1] not in _COMPUTE:
            continue
        kind, name = part
        lacking = [
            one["name"]
            for one in all_containers(spec)
            if name not in ((one.get("resources") or {}).get(kind) or {})
        ]
        if lacking:
            said.append(f"{key} for: {','.join(lacking)}")
    return "; ".join(said)
