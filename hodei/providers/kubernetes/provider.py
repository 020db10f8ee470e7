"""The Kubernetes provider: the contract's verbs in as few requests as they can be."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from typing import Any
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.providers.configuration import read_config
from hodei.providers.contract import (
    Capabilities,
    Health,
    ProviderError,
    ResourceState,
    ResourceView,
    WorkerRequest,
)
from hodei.providers.kubernetes import examine, failures, pod, probe, view
from hodei.providers.kubernetes.api import ApiError, ApiServer
from hodei.providers.kubernetes.config import KubernetesConfig
from hodei.providers.kubernetes.events import Events
from hodei.providers.kubernetes.kubeconfig import NoCluster
from hodei.providers.kubernetes.nodes import Nodes
from hodei.providers.kubernetes.reach import WayBack
from hodei.providers.kubernetes.tokens import Tokens
from hodei.providers.kubernetes.watch import PodWatch
from hodei.settings import Settings

NAME_S = 20.0
"""How long a name may be taken by a pod that is on its way out."""

REMOVAL_S = 60.0
"""How long a removal may take beyond its grace period: a busy node needs its time."""

QUICKEST_END_S = 1
"""The shortest grace period that the kubelet confirms; 0 would remove the object and leave the container to itself."""

DISCARD_S = 5.0
DOOR_S = 2.0
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5


class KubernetesProvider:
    """Workers as pods of one cluster. Safe to share between threads.

    A worker is a Secret and a pod of the same name. The Secret is made first, without an owner; then the pod; then the
    Secret is given to the pod: a start that is cut short anywhere leaves things with our labels, which the next start
    finishes and the sweep removes.
    """

    provider_type = "kubernetes"

    def __init__(
        self, provider_id: UUID, *, settings: Settings, config: dict[str, Any] | None = None
    ) -> None:
        self.provider_id = provider_id
        self.config = read_config(KubernetesConfig, config)
        settings_secret = (settings.k8s_image_pull_secret,) if settings.k8s_image_pull_secret else ()
        named = self.config.image_pull_secrets
        self.place = pod.Place(
            namespace=self.config.namespace or settings.k8s_namespace,
            service_account=self.config.service_account or settings.k8s_service_account,
            default_image=settings.worker_image,
            image_pull_secrets=settings_secret if named is None else named,
            config=self.config,
        )
        self.api = ApiServer(
            self.config.kubeconfig or settings.k8s_kubeconfig,
            self.config.context or settings.k8s_context,
            timeout_s=self.config.call_timeout_s,
        )
        self.way_back = WayBack(
            self.api,
            server_host=settings.server_host,
            port=settings.worker_manager_port,
            service=self.config.server_service,
        )
        self._events = Events(self.api, self.place.namespace)
        self._nodes = Nodes(self.api, lost_after_s=settings.lease_over_s)
        self._watches: dict[str, PodWatch] = {}
        self._lock = threading.Lock()
        self._pods = f"/api/v1/namespaces/{self.place.namespace}/pods"
        self._tokens = Tokens(self.api, self.place)

    # --- making ----------------------------------------------------------------------------------------------------

    def start(self, request: WorkerRequest) -> str:
        """Make the Secret and the pod; what an earlier try left is finished. Waits for the pod to run as long as
        ``patience_s`` at most.
        """
        body = pod.worker_pod(request, self.place, server_url=self.way_back.url())
        deadline = time.monotonic() + NAME_S
        while True:
            self._tokens.put(request)
            made = self._put_pod(request.worker_id, body)
            if made is not None:
                break
            if time.monotonic() > deadline:
                name = pod.name_of(request.worker_id)
                message = (
                    f"The pod {name} is being deleted and does not go; look at it with kubectl get pods."
                )
                raise ProviderError(Failure(code="ERR_5006", message=message), transient=True)
            time.sleep(_LONGEST_PAUSE_S)
        self._tokens.give(request, made)
        self._settle(request)
        return str(made["metadata"]["name"])

    def prepare(self, image: str) -> None:
        """Nodes pull images themselves."""

    def _put_pod(self, worker_id: UUID, body: dict[str, Any]) -> dict[str, Any] | None:
        """The pod, made now or before; None while one of that name is on its way out."""
        name = pod.name_of(worker_id)
        try:
            return self.api.create(self._pods, body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                self._tokens.forget(worker_id)
                raise self._about(error, f"the pod {name}") from error
        found = self._get(name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return None
        if pod.worker_of(found) != worker_id:
            self._tokens.forget(worker_id)
            raise ProviderError(failures.foreign("pod", name, self.place.namespace))
        return found

    def _settle(self, request: WorkerRequest) -> None:
        """Wait until the pod runs, or is known not to."""
        until = time.monotonic() + request.patience_s
        pause_s = _PAUSE_S
        while time.monotonic() < until:
            seen = self.inspect(request.worker_id)
            if seen.state is not ResourceState.STARTING or seen.failure or seen.waiting:
                return
            time.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    # --- looking ---------------------------------------------------------------------------------------------------

    def inspect(self, worker_id: UUID) -> ResourceView:
        name = pod.name_of(worker_id)
        found = self._get(name)
        if found is None or pod.worker_of(found) != worker_id:
            return view.gone(worker_id, self._last_words(name))
        return self._view(worker_id, found)

    def list_workers(self, deployment: str) -> list[ResourceView]:
        """By pods, and by Secrets whose pod was never made."""
        selector = pod.owned_by(deployment)
        try:
            secrets, _ = self.api.list_all(self._tokens.path, selector=selector, metadata_only=True)
            pods, _ = self.api.list_all(self._pods, selector=selector)
        except ApiError as error:
            raise self._about(error, f"the list of workers in {self.place.namespace}") from error
        views = {seen.worker_id: seen for seen in self._views(pods)}
        for entry in secrets:
            worker_id = pod.worker_of(entry)
            if worker_id is not None and worker_id not in views:
                views[worker_id] = view.half_made(worker_id, entry["metadata"]["name"])
        return list(views.values())

    def watched(self, deployment: str) -> list[ResourceView] | None:
        """What the watch shows of this deployment's pods; None while it is not in step. The first question starts it."""
        with self._lock:
            watch = self._watches.get(deployment)
            if watch is None:
                watch = self._watches[deployment] = PodWatch(self.api, self._pods, pod.owned_by(deployment))
        try:
            self.api.cluster()
        except NoCluster:
            return None
        found = watch.pods()
        return None if found is None else self._views(found)

    def _views(self, found: list[dict[str, Any]]) -> list[ResourceView]:
        pairs = ((pod.worker_of(each), each) for each in found)
        return [self._view(worker_id, each) for worker_id, each in pairs if worker_id is not None]

    def _view(self, worker_id: UUID, found: dict[str, Any]) -> ResourceView:
        return view.from_pod(
            worker_id,
            found,
            now=self.api.now(),
            said=self._events.said_of(found),
            unschedulable_s=self.config.unschedulable_s,
        )

    def _last_words(self, name: str) -> Failure | None:
        """Why a pod is gone, when a watch of this process saw it go."""
        with self._lock:
            watches = list(self._watches.values())
        seen = next((last for watch in watches if (last := watch.last_seen(name)) is not None), None)
        return None if seen is None else view.last_words(seen)

    def _get(self, name: str) -> dict[str, Any] | None:
        try:
            return self.api.get(f"{self._pods}/{name}")
        except ApiError as error:
            if error.status == 404 and error.reason == "NotFound":
                return None
            raise self._about(error, f"the pod {name}") from error

    # --- ending ----------------------------------------------------------------------------------------------------

    def stop(self, worker_id: UUID, *, grace_s: float = 0.0) -> None:
        """Delete pod and Secret and wait until the kubelet has confirmed that the pod has ended.

        A grace of 0 is :data:`QUICKEST_END_S`, the quickest end that is confirmed. A pod whose node does not confirm is
        removed by force only when the node's object is gone, or shows the node not ready for longer than a worker's lease
        lasts: by then its agent has killed the job by its own clock. Otherwise this raises ERR_3010, as soon as the node is
        seen not to answer, or ERR_5006 after :data:`REMOVAL_S`; what was deleted stays so, and may be asked again.
        """
        self._remove(worker_id, max(QUICKEST_END_S, math.ceil(grace_s)), force_after_s=None)

    def discard(self, worker_id: UUID) -> None:
        """As stop, but the kubelet's word is not waited for longer than :data:`DISCARD_S`: it does not give it while it
        pulls an image.

        Without its Secret the container is not made any more; one that was just being made is refused by worker-manager.
        """
        self._remove(worker_id, QUICKEST_END_S, force_after_s=DISCARD_S)

    def _remove(self, worker_id: UUID, grace: int, *, force_after_s: float | None) -> None:
        name = pod.name_of(worker_id)
        began = time.monotonic()
        until = began + grace + REMOVAL_S
        pause_s = _PAUSE_S
        found = self._get(name)
        deleted: str | None = None
        forget = True
        while found is not None and pod.worker_of(found) == worker_id:
            uid = str(found["metadata"]["uid"])
            if deleted != uid:
                deleted = uid
                self._delete(name, uid=uid, grace=grace)
            elif (force_after_s is not None and time.monotonic() - began > force_after_s) or (
                self._nodes.confirms_loss(found)
            ):
                self._delete(name, uid=uid, grace=0)
            elif force_after_s is None and self._is_lost(found):
                raise self._stays(found)  # the kubelet cannot hear of it before its node is back
            if forget:
                self._tokens.forget(worker_id)
                forget = False
            if time.monotonic() > until:
                raise self._stays(found)
            time.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            found = self._get(name)
        if forget:
            self._tokens.forget(worker_id)

    def _delete(self, name: str, *, uid: str, grace: int) -> None:
        try:
            self.api.delete(f"{self._pods}/{name}", uid=uid, grace=grace)
        except ApiError as error:
            raise self._about(error, f"the pod {name}") from error

    # --- the rest --------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        return examine.examine(self.api, self.place, self.way_back)

    def probe(self) -> Health:
        """The health, and what a pod finds that goes the way of a worker. Takes up to about a minute."""
        found = self.health()
        if not found.ok:
            return found
        try:
            url = self.way_back.url()
            ok, sentence = probe.try_it(self.api, self.place, server_url=url, said_of=self._events.said_of)
        except ApiError as error:
            ok, sentence = False, self._about(error, "the probe pod").failure.message
        except ProviderError as error:
            ok, sentence = False, error.failure.message
        return Health(
            ok=ok,
            message=found.message if ok else sentence,
            checks=found.checks | {"probe": sentence},
            details=found.details,
        )

    def capabilities(self) -> Capabilities:
        return Capabilities(images=True, cpu_limits=True, memory_limits=True, gpus=bool(self.config.gpus))

    def door(self) -> str | None:
        """The address of this machine, or of this pod, at which workers come in; None while nobody knows. Takes a moment."""
        found: list[str] = []

        def find() -> None:
            with suppress(ProviderError):
                found.append(self.way_back.address())

        finding = threading.Thread(
            target=find, name="way back", daemon=True
        )  # a name server may take its time
        finding.start()
        finding.join(DOOR_S)
        return found[0] if found else None

    def close(self) -> None:
        with self._lock:
            watches, self._watches = list(self._watches.values()), {}
        for watch in watches:
            watch.stop()
        self.api.close()

    def _about(self, error: ApiError, what: str) -> ProviderError:
        return error.about(what, self.place.namespace)

    def _is_lost(self, found: dict[str, Any]) -> bool:
        return view.from_pod(UUID(int=0), found, now=self.api.now()).state is ResourceState.LOST

    def _stays(self, found: dict[str, Any]) -> ProviderError:
        seen = view.from_pod(UUID(int=0), found, now=self.api.now())
        if seen.state is ResourceState.LOST and seen.failure is not None:
            return ProviderError(seen.failure, transient=True)
        name, node = found["metadata"]["name"], (found.get("spec") or {}).get("nodeName")
        doing = (
            "prepares it still, or pulls its image"
            if view.never_ran(found)
            else "does not say that it has ended"
        )
        message = f"The pod {name} was deleted, and the kubelet of {node} {doing}; look at it: kubectl describe node {node}"
        return ProviderError(Failure(code="ERR_5006", message=message), transient=True)
