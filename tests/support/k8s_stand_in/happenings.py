"""The events that ``kubectl describe`` shows, recorded as the scheduler and the kubelet do: the same one again is counted."""

from __future__ import annotations

import secrets
from typing import Any
from uuid import uuid4

from support.k8s_stand_in import clock, node
from support.k8s_stand_in.resources import EVENTS
from support.k8s_stand_in.store import Object, Store


def record(
    store: Store,
    pod: Object,
    kind: str,
    reason: str,
    message: str,
    *,
    component: str,
    host: str = "",
    field: str = "",
) -> None:
    """An event about a pod: ``kind`` is ``Normal`` or ``Warning``; ``field`` the part of the pod that it is about.

    The scheduler's are of the newer kind, with ``series`` in the place of ``count``.
    """
    meta = pod["metadata"]
    newer = component == "default-scheduler"
    for known in store.list(EVENTS, meta["namespace"]):
        if (known["involvedObject"]["uid"], known["reason"], known["message"]) == (
            meta["uid"],
            reason,
            message,
        ):
            again = _series if newer else _count
            store.update(EVENTS, meta["namespace"], known["metadata"]["name"], again)
            return
    about: dict[str, Any] = {
        "kind": "Pod",
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
        "apiVersion": "v1",
        "resourceVersion": meta["resourceVersion"],
    }
    now = clock.now()
    older: Object = {
        "source": {"component": component, "host": host},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "eventTime": None,
        "reportingComponent": component,
        "reportingInstance": host,
    }
    event: Object = {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": f"{meta['name']}.{secrets.token_hex(8)}",
            "namespace": meta["namespace"],
            "uid": str(uuid4()),
            "creationTimestamp": now,
        },
        "involvedObject": about | ({"fieldPath": field} if field else {}),
        "reason": reason,
        "message": message,
        "type": kind,
    }
    store.create(EVENTS, event | (_of_the_newer_kind(component) if newer else older))


def _of_the_newer_kind(component: str) -> Object:
    return {
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": clock.now_micro(),
        "action": "Scheduling",
        "reportingComponent": component,
        "reportingInstance": f"{component}-{node.NAME}",
    }


def _count(event: Object) -> None:
    event["count"] += 1
    event["lastTimestamp"] = clock.now()


def _series(event: Object) -> None:
    before = (event.get("series") or {"count": 1})["count"]
    event["series"] = {"count": before + 1, "lastObservedTime": clock.now_micro()}
