"""Puts pods on the node, or says why not in the scheduler's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from support.k8s_stand_in import clock, happenings, quantities, quota
from support.k8s_stand_in.controllers import Controller
from support.k8s_stand_in.resources import NODES, PODS
from support.k8s_stand_in.store import Object

COMPONENT = "default-scheduler"
_HELPLESS = "preemption: 0/{n} nodes are available: {n} Preemption is not helpful for scheduling."
_NO_VICTIMS = "preemption: 0/{n} nodes are available: {n} No preemption victims found for incoming pod."


class Scheduler(Controller):
    def sync(self) -> None:
        for pod in self.store.list(PODS):
            meta, spec = pod["metadata"], pod["spec"]
            if spec.get("nodeName") or meta.get("deletionTimestamp") or spec["schedulerName"] != COMPONENT:
                continue
            with self.store.changed:
                node, words = self._place(pod)
                if node is not None:
                    self._bind(pod, node["metadata"]["name"])
                else:
                    self._refuse(pod, words)

    def _place(self, pod: Object) -> tuple[Object | None, str]:
        """A node that fits, or why there is none."""
        nodes = self.store.list(NODES)
        whys: list[tuple[str, bool]] = []
        for node in nodes:
            found = list(self._reasons(pod["spec"], node))
            if not found:
                return node, ""
            whys += found
        if not nodes:
            return None, "no nodes available to schedule pods"
        words = ", ".join(f"1 {why}" for why, _ in whys)
        preemption = _NO_VICTIMS if all(helpful for _, helpful in whys) else _HELPLESS
        return None, f"0/{len(nodes)} nodes are available: {words}. {preemption.format(n=len(nodes))}"

    def _reasons(self, spec: dict[str, Any], node: Object) -> Iterator[tuple[str, bool]]:
        """Why the pod does not go on the node, and whether another pod's end would help."""
        for taint in node["spec"].get("taints") or ():
            if taint["effect"] in ("NoSchedule", "NoExecute") and not _tolerated(spec, taint):
                yield f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}", False
                return
        if not selected(spec, node["metadata"].get("labels") or {}):
            yield "node(s) didn't match Pod's node affinity/selector", False
            return
        allocatable = node["status"]["allocatable"]
        there = [
            one for one in self.store.list(PODS)
            if one["spec"].get("nodeName") == node["metadata"]["name"]
            and one["status"]["phase"] not in ("Succeeded", "Failed")
        ]  # fmt: skip
        if len(there) >= int(allocatable["pods"]):
            yield "Too many pods", True
        asked = {name for one in spec["containers"] for name in (one["resources"].get("requests") or {})}
        for name in sorted(asked):
            room = quantities.amount(allocatable.get(name, "0"))
            wanted = quota.requested(spec, name)
            taken = sum(quota.requested(one["spec"], name) for one in there)
            if wanted and wanted + taken > room:
                yield f"Insufficient {name}", True

    def _bind(self, pod: Object, node: str) -> None:
        def bind(found: Object) -> None:
            found["spec"]["nodeName"] = node
            set_condition(found["status"], "PodScheduled", "True")

        meta = pod["metadata"]
        self.store.update(PODS, meta["namespace"], meta["name"], bind, uid=meta["uid"])
        words = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
        happenings.record(self.store, pod, "Normal", "Scheduled", words, component=COMPONENT)

    def _refuse(self, pod: Object, words: str) -> None:
        def unschedulable(found: Object) -> None:
            set_condition(found["status"], "PodScheduled", "False", reason="Unschedulable", message=words)

        meta = pod["metadata"]
        before = pod["metadata"]["resourceVersion"]
        after = self.store.update(PODS, meta["namespace"], meta["name"], unschedulable, uid=meta["uid"])
        if after is not None and after["metadata"]["resourceVersion"] != before:
            happenings.record(self.store, pod, "Warning", "FailedScheduling", words, component=COMPONENT)


def set_condition(status: dict[str, Any], kind: str, value: str, **more: str) -> None:
    """Set a condition of a pod; its time changes with its value alone."""
    conditions = status.setdefault("conditions", [])
    found = next((one for one in conditions if one["type"] == kind), None)
    if found is None:
        found = {"type": kind}
        conditions.append(found)
    if found.get("status") != value:
        found |= {"status": value, "lastProbeTime": None, "lastTransitionTime": clock.now()}
    for name in ("reason", "message"):
        found.pop(name, None)
    found |= more


def _tolerated(spec: dict[str, Any], taint: dict[str, Any]) -> bool:
    return any(
        one.get("effect") in (None, "", taint["effect"])
        and (
            (one.get("operator") == "Exists" and one.get("key") in (None, "", taint["key"]))
            or (one.get("key") == taint["key"] and one.get("value", "") == taint.get("value", ""))
        )
        for one in spec.get("tolerations") or ()
    )


def selected(spec: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether the node's labels are what the pod's selector and its required affinity ask for."""
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(
        all(_expressed(one, labels) for one in term.get("matchExpressions") or ())
        for term in required["nodeSelectorTerms"]
    )


def _expressed(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    key, values, operator = expression["key"], expression.get("values") or (), expression["operator"]
    found = labels.get(key)
    if operator in ("In", "NotIn"):
        return (found in values) is (operator == "In")
    if operator in ("Exists", "DoesNotExist"):
        return (found is not None) is (operator == "Exists")
    if found is None:
        return False
    return int(found) > int(values[0]) if operator == "Gt" else int(found) < int(values[0])
