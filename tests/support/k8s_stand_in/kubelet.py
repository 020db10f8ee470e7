"""Starts a run for each pod of the node, tells it of changes, and reads logs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from support.k8s_stand_in import node, refusals
from support.k8s_stand_in.controllers import Controller
from support.k8s_stand_in.pod_run import PodRun
from support.k8s_stand_in.requests import Request
from support.k8s_stand_in.resources import PODS
from support.k8s_stand_in.store import Object
from support.k8s_stand_in.surroundings import Surroundings


class Kubelet(Controller):
    """While the node does not answer it does nothing, and the containers go on."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around.store)
        self._around = around
        self._runs: dict[str, PodRun] = {}
        self._lock = threading.Lock()

    def sync(self) -> None:
        if not self._around.node.answers:
            return
        there = {
            str(pod["metadata"]["uid"]): pod
            for pod in self.store.list(PODS)
            if pod["spec"].get("nodeName") == node.NAME
        }
        with self._lock:
            for uid, run in list(self._runs.items()):
                if uid in there:
                    run.fate.see(there[uid])
                else:
                    run.fate.removed()
                if run.over:
                    del self._runs[uid]
            for uid, pod in there.items():
                if uid not in self._runs:
                    self._runs[uid] = PodRun(self._around, pod)
                    self._runs[uid].start()

    def run_of(self, namespace: str, name: str) -> PodRun:
        """Raises KeyError for a pod that is not on the node."""
        pod = self.store.get(PODS, namespace, name)
        with self._lock:
            return self._runs[str(pod["metadata"]["uid"])] if pod is not None else self._runs[name]

    def runs(self) -> list[PodRun]:
        with self._lock:
            return list(self._runs.values())

    def stop(self) -> None:
        super().stop()
        for run in self.runs():
            run.fate.stop()
        for run in self.runs():
            run.join()

    def read_log(self, pod: Object, request: Request) -> Iterable[bytes]:
        """What ``pods/log`` answers. Raises BadRequest for a container that does not run yet, or does not exist."""
        meta, spec = pod["metadata"], pod["spec"]
        name = request.query.get("container") or _only(pod)
        if not spec.get("nodeName"):
            raise refusals.bad_request(f"pod {meta['name']} does not have a host assigned")
        with self._lock:
            run = self._runs.get(str(meta["uid"]))
        found = run.container(name) if run else None
        if found is None or run is None:
            raise refusals.bad_request(f"container {name} is not valid for pod {meta['name']}")
        if "waiting" in found.state:
            reason = found.state["waiting"]["reason"]
            why = (
                "trying and failing to pull image"
                if reason in ("ErrImagePull", "ImagePullBackOff")
                else reason
            )
            message = f'container "{name}" in pod "{meta["name"]}" is waiting to start: {why}'
            raise refusals.bad_request(message)
        return self._log(run, found.container_id, _options(request))

    def _log(self, run: PodRun, container: str, options: dict[str, Any]) -> Iterator[bytes]:
        with run.fate.reading(), contextlib.closing(self._around.engine.log(container, **options)) as lines:
            yield from lines


def _only(pod: Object) -> str:
    names = [one["name"] for one in pod["spec"]["containers"]]
    if len(names) == 1:
        return str(names[0])
    first = [one["name"] for one in pod["spec"].get("initContainers") or ()]
    more = f" or one of the init containers: [{' '.join(first)}]" if first else ""
    message = f"a container name must be specified for pod {pod['metadata']['name']}, choose one of: [{' '.join(names)}]{more}"
    raise refusals.bad_request(message)


def _options(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {"follow": request.is_set("follow"), "timestamps": request.is_set("timestamps")}
    if "tailLines" in request.query:
        options["tail"] = int(request.query["tailLines"])
    return options
