"""What the kubelet tells the API of a pod: its status and its events. Nothing while the node is lost."""

from __future__ import annotations

import copy
from typing import Any

from support.k8s_stand_in import clock, happenings, node, pod_status
from support.k8s_stand_in.fate import End, Fate
from support.k8s_stand_in.node import NodeLife
from support.k8s_stand_in.pod_status import ContainerState
from support.k8s_stand_in.resources import PODS
from support.k8s_stand_in.scheduler import set_condition
from support.k8s_stand_in.store import Object, Store

_TERMINAL = ("Succeeded", "Failed")


class Teller:
    """For one pod. ``first`` are its init containers, ``main`` the others; ``address`` is the pod's, once it has one."""

    def __init__(
        self,
        store: Store,
        life: NodeLife,
        fate: Fate,
        first: list[ContainerState],
        main: list[ContainerState],
        host: str,
    ) -> None:
        self.address = ""
        self._store = store
        self._life = life
        self._fate = fate
        self._first = first
        self._main = main
        self._host = host
        self._started = clock.now()

    def report(self, end: End | None = None, *, over: bool = False) -> None:
        """Write the status. ``over``: nothing runs any more, and nothing will."""
        if not self._life.answers:
            return
        first, main = copy.deepcopy(self._first), copy.deepcopy(self._main)
        meta, spec = self._fate.pod["metadata"], self._fate.pod["spec"]
        phase = pod_status.phase(spec, first, main)
        if end is not None and end.reason:
            phase = "Failed"
        elif over and phase not in _TERMINAL:
            phase = "Succeeded" if all(one.exit_code == 0 for one in main) else "Failed"

        def write(pod: Object) -> None:
            # The kubelet writes that the containers have ended before it changes the phase.
            lags = not over and phase in _TERMINAL
            pod_status.write(
                pod,
                first,
                main,
                phase=pod["status"]["phase"] if lags else phase,
                started=self._started,
                host=self._host,
                address=self.address,
                reason=end.reason if end else "",
                message=end.message if end else "",
            )
            if end is not None and end.reason == "Evicted":
                more = {"reason": "TerminationByKubelet", "message": end.message}
                set_condition(pod["status"], "DisruptionTarget", "True", **more)

        self._store.update(PODS, meta["namespace"], meta["name"], write, uid=meta["uid"])

    def say(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Record an event, about the pod or one of its containers."""
        if not self._life.answers:
            return
        group = "initContainers" if any(one.name == container for one in self._first) else "containers"
        field: dict[str, Any] = {"field": f"spec.{group}{{{container}}}"} if container else {}
        happenings.record(
            self._store, self._fate.pod, kind, reason, message, component="kubelet", host=node.NAME, **field
        )
