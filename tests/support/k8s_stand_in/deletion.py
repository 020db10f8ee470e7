"""How an object goes: at once, with a grace period, or when its finalizers are done."""

from __future__ import annotations

from typing import Any

from support.k8s_stand_in import clock, refusals
from support.k8s_stand_in.pod_defaults import DEFAULT_GRACE_S
from support.k8s_stand_in.resources import NAMESPACES, PODS, Resource
from support.k8s_stand_in.store import Object, Store

_FINALIZERS = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}


def delete(
    store: Store, resource: Resource, item: Object, options: dict[str, Any], *, dry_run: bool = False
) -> tuple[Object, bool]:
    """The object as it is now, and whether it is gone. Raises Conflict when a precondition does not hold. Hold ``changed``."""
    meta = item["metadata"]
    _check(resource, meta, options.get("preconditions") or {})
    grace_s = _grace(resource, item, options)
    finalizer = _FINALIZERS.get(options.get("propagationPolicy") or "")
    if dry_run:
        return item, grace_s == 0
    place = (resource, meta.get("namespace", ""), meta["name"])
    if (
        grace_s == 0
        and not meta.get("finalizers")
        and not finalizer
        and resource is not NAMESPACES
        and resource is not PODS
    ):
        return store.remove(*place) or item, True

    def mark(found: Object) -> None:
        now = found["metadata"]
        before = now.get("deletionGracePeriodSeconds")
        if before is not None and before <= grace_s:
            return
        now["deletionTimestamp"] = clock.in_seconds(grace_s)
        now["deletionGracePeriodSeconds"] = grace_s
        if finalizer and finalizer not in (now.get("finalizers") or ()):
            now["finalizers"] = [*(now.get("finalizers") or ()), finalizer]
        if resource is NAMESPACES:
            now["finalizers"] = ["kubernetes"]
            found["status"]["phase"] = "Terminating"

    marked = store.update(*place, mark) or item
    return marked, settle(store, *place)


def settle(store: Store, resource: Resource, namespace: str, name: str) -> bool:
    """Remove what is marked, has no time left and no finalizer that holds it. Whether it is gone."""
    with store.changed:
        found = store.get(resource, namespace, name)
        if found is None:
            return True
        meta = found["metadata"]
        over = meta.get("deletionTimestamp") and meta.get("deletionGracePeriodSeconds") == 0
        if not over or meta.get("finalizers") or resource is NAMESPACES:
            return False
        store.remove(resource, namespace, name)
        return True


def finish(store: Store, resource: Resource, namespace: str, name: str, uid: str) -> None:
    """The grace period is over and what the object stands for has ended: it goes, unless finalizers hold it."""

    def over(found: Object) -> None:
        found["metadata"]["deletionGracePeriodSeconds"] = 0
        found["metadata"].setdefault("deletionTimestamp", clock.now())

    with store.changed:
        if store.update(resource, namespace, name, over, uid=uid) is not None:
            settle(store, resource, namespace, name)


def _check(resource: Resource, meta: dict[str, Any], conditions: dict[str, Any]) -> None:
    uid, revision = conditions.get("uid"), conditions.get("resourceVersion")
    if uid is not None and uid != meta["uid"]:
        why = (
            f"the UID in the precondition ({uid}) does not match the UID in record ({meta['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise refusals.conflict(resource.group, resource.kind, meta["name"], why)
    if revision is not None and revision != meta["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record "
            f"({meta['resourceVersion']}). The object might have been modified"
        )
        raise refusals.conflict(resource.group, resource.kind, meta["name"], why)


def _grace(resource: Resource, item: Object, options: dict[str, Any]) -> int:
    """In seconds: as asked for, else the pod's own; none for what does not run."""
    if resource is not PODS:
        return 0
    spec, phase = item["spec"], (item.get("status") or {}).get("phase")
    asked = options.get("gracePeriodSeconds")
    grace = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S) if asked is None else asked
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    return 1 if grace < 0 else int(grace)
