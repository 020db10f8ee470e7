"""What a pod's status says, in the words of the contract. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.providers.contract import ResourceState, ResourceView
from hodei.providers.exits import EXIT_NO_PYTHON, agent_exit
from hodei.providers.kubernetes import failures
from hodei.providers.kubernetes.overlay import AGENT, WORKER

EXIT_KILLED = 137
OVERDUE_S = 15.0
"""How long after its grace period a pod that is being deleted may still be there before its node counts as not answering."""

_IMAGE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
     "RegistryUnavailable", "SignatureValidationFailed"}
)  # fmt: skip
_NEVER_STARTS = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_SCHEDULER_TRIES_AGAIN = "SchedulerError"
"""A mishap of the scheduler's own (a write that crossed another, a plug-in that failed): nothing about the pod."""

_ABOUT_AN_IMAGE = re.compile(
    r"Failed to (?:pull image|apply default image tag|inspect image) \"([^\"]+)\"|Container image \"([^\"]+)\" is not present"
)
_NOT_STARTED = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})
_EVICTED = {
    "Evicted",
    "Preempting",
    "Preempted",
    "PreemptionByScheduler",
    "EvictionByEvictionAPI",
    "TerminationByKubelet",
}
_NODE_LOST = {
    "NodeLost",
    "NodeShutdown",
    "Shutdown",
    "Terminated",
    "DeletionByTaintManager",
    "DeletionByPodGC",
}
_NO_ROOM_AT_NODE = ("OutOf", "NodeAffinity", "UnexpectedAdmissionError", "NodePorts", "InsufficientResource")


@dataclass(frozen=True, kw_only=True)
class Said:
    """An event about a pod."""

    reason: str
    message: str

    @property
    def image(self) -> str | None:
        """The image that cannot be had, when that is what it says."""
        found = _ABOUT_AN_IMAGE.match(self.message)
        return None if found is None else found[1] or found[2]


def gone(worker_id: UUID, failure: Failure | None = None) -> ResourceView:
    return ResourceView(worker_id=worker_id, state=ResourceState.GONE, failure=failure)


def half_made(worker_id: UUID, name: str) -> ResourceView:
    """Only the Secret is there: a start was cut short before the pod."""
    return ResourceView(worker_id=worker_id, state=ResourceState.STARTING, resource_id=name)


def from_pod(
    worker_id: UUID,
    pod: dict[str, Any],
    *,
    now: datetime,
    said: Said | None = None,
    unschedulable_s: float | None = None,
) -> ResourceView:
    """A view from ``GET …/pods/{name}``.

    ``said``: what events say of it, for a status that does not say enough. ``unschedulable_s``: how long a pod may wait
    for a node before that is a failure; None: it never is.
    """
    name = pod["metadata"]["name"]
    if _ended(pod):
        return ResourceView(
            worker_id=worker_id,
            state=ResourceState.EXITED,
            resource_id=name,
            exit_code=_exit_code(pod),
            failure=end_failure(pod),
        )
    lost = _node_lost(pod, now)
    if lost is not None:
        return ResourceView(worker_id=worker_id, state=ResourceState.LOST, resource_id=name, failure=lost)
    if "running" in _state(_worker(pod)):
        ending = last_words(pod) if pod["metadata"].get("deletionTimestamp") else None
        return ResourceView(
            worker_id=worker_id, state=ResourceState.RUNNING, resource_id=name, failure=ending
        )
    failure, waiting = _not_running(pod, now, said, unschedulable_s)
    return ResourceView(
        worker_id=worker_id, state=ResourceState.STARTING, resource_id=name, failure=failure, waiting=waiting
    )


def last_words(pod: dict[str, Any]) -> Failure:
    """Why a pod goes, or went, by what was last seen of it. Nobody asks it of a pod that we end ourselves."""
    if _ended(pod):
        failure = end_failure(pod)
        if failure is not None:
            return failure
    disrupted = _disrupted(pod)
    if disrupted is not None:
        return disrupted
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName")
    where = f" from node {node}" if node else ""
    return Failure(
        code="ERR_2006",
        message=f"The pod {name} was deleted{where} while its worker was needed, by somebody else.",
    )


def lacks_words(pod: dict[str, Any]) -> bool:
    """Whether the pod has a node and does not run there, and its status does not say why: its events may."""
    if _ended(pod) or "running" in _state(_worker(pod)):
        return False
    refused = _image_trouble(pod)
    if refused is not None:
        return not _has_cause(refused.get("message") or "")
    return (_condition(pod, "PodScheduled") or {}).get("status") == "True"


def never_ran(pod: dict[str, Any]) -> bool:
    """Whether nobody has ever made the worker's container: the kubelet prepares the pod still, or pulls its image."""
    worker = _worker(pod)
    return not worker.get("containerID") and not {"running", "terminated"} & _state(worker).keys()


def cannot_pull(pod: dict[str, Any]) -> bool:
    """Whether an image of the pod's cannot be had."""
    return _image_trouble(pod) is not None


def _image_trouble(pod: dict[str, Any]) -> dict[str, Any] | None:
    found = (_state(status).get("waiting") or {} for status in _statuses(pod))
    return next((waiting for waiting in found if waiting.get("reason") in _IMAGE), None)


def end_failure(pod: dict[str, Any]) -> Failure | None:
    """Why the pod ended; None when its agent left in peace."""
    status = pod.get("status") or {}
    reason, message = status.get("reason") or "", status.get("message") or ""
    if reason == "DeadlineExceeded":
        return _deadline(pod)
    if reason in _EVICTED or reason in _NODE_LOST:
        return _removed(reason, message, pod)
    if reason.startswith(_NO_ROOM_AT_NODE):
        return Failure(code="ERR_3002", message=f"The node did not take the pod ({reason}): {message}")
    ended = _state(_worker(pod)).get("terminated") or {}
    disrupted = _disrupted(pod) if ended.get("exitCode") != 0 else None
    if disrupted is not None:
        return disrupted
    if not ended:
        return _before_the_worker(pod) or (
            Failure(
                code="ERR_3007",
                message=f"The pod failed before its worker ran: {reason or 'no reason'} {message}".strip(),
            )
            if status.get("phase") == "Failed"
            else None
        )
    return _container_end(ended, _image(pod, WORKER), status.get("phase"))


def _container_end(ended: dict[str, Any], image: str, phase: str | None) -> Failure | None:
    reason, exit_code = ended.get("reason") or "", ended.get("exitCode")
    if reason == "OOMKilled" and exit_code == EXIT_KILLED:
        # The runtime says so also when only a child of the agent was taken: then the agent reports its job's end itself.
        return Failure(
            code="ERR_1013", message="The worker used more memory than its limit, and the kernel ended it."
        )
    if reason == "ContainerStatusUnknown":
        return Failure(
            code="ERR_3010",
            message="The node lost sight of the worker: it was restarted, or ended the pod meanwhile.",
        )
    if reason in _NOT_STARTED:
        return failures.container_failed(reason, ended.get("message") or "no words", image=image)
    if exit_code == EXIT_NO_PYTHON:
        return failures.no_python(image)
    if exit_code == EXIT_KILLED and reason in ("Error", ""):
        return Failure(code="ERR_2003", message="The worker's agent was killed (exit code 137).")
    return agent_exit(exit_code)


def _before_the_worker(pod: dict[str, Any]) -> Failure | None:
    """An init container that failed: the one that brings the agent, or one of the operator's template."""
    for status in (pod.get("status") or {}).get("initContainerStatuses") or ():
        ended = _state(status).get("terminated") or {}
        if not ended.get("exitCode"):
            continue
        if ended.get("reason") == "OOMKilled":
            return Failure(
                code="ERR_1013", message="The memory limit is too small even to bring the agent into the pod."
            )
        words = ended.get("message") or f"exit code {ended['exitCode']}"
        name = status["name"]
        what = (
            "The agent could not be put into the pod"
            if name == AGENT
            else f"The init container {name} failed"
        )
        return Failure(code="ERR_3007", message=f"{what} ({ended.get('reason')}): {' '.join(words.split())}")
    return None


def _not_running(
    pod: dict[str, Any], now: datetime, said: Said | None, unschedulable_s: float | None
) -> tuple[Failure | None, Failure | None]:
    """The failure of a pod that will not run, and what one that may still run waits for.

    The kubelet starts nothing of a pod that is being deleted, and what it says of the containers then may come from that.
    """
    if pod["metadata"].get("deletionTimestamp"):
        return last_words(pod), None
    for status in _statuses(pod):
        waiting = _state(status).get("waiting") or {}
        reason, message = waiting.get("reason") or "", " ".join((waiting.get("message") or "").split())
        if reason in _IMAGE:
            words = message if _has_cause(message) or said is None else said.message
            return _image_failed(words or reason, _image(pod, status["name"]))
        if failures.is_passing(message):
            return None, Failure(code="ERR_3007", message=f"The kubelet tries again to start it: {message}")
        if reason in _NEVER_STARTS:
            return failures.container_failed(reason, message, image=_image(pod, status["name"])), None
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        words = scheduled.get("message") or scheduled.get("reason") or "no reason given"
        failure = Failure(code="ERR_3008", message=f"No node can take the pod: {words}")
        since = moment(scheduled.get("lastTransitionTime"))
        over = (
            unschedulable_s is not None
            and scheduled.get("reason") != _SCHEDULER_TRIES_AGAIN
            and (since is None or (now - since).total_seconds() >= unschedulable_s)
        )
        return (failure, None) if over else (None, failure)
    if said is None:
        return None, None
    if said.image is not None:
        return _image_failed(said.message, said.image)
    return None, Failure(code="ERR_3007", message=f"The pod does not run yet: {said.message}")


def _image_failed(words: str, image: str) -> tuple[Failure | None, Failure | None]:
    """As :func:`_not_running`: the failure, and what is waited for."""
    if failures.is_pulled_later(words):
        return None, Failure(code="ERR_3007", message=f"The kubelet pulls {image} later: {words}")
    return failures.image_failed(words, image=image), None


def _has_cause(message: str) -> bool:
    """Whether the kubelet says more than that it waits before it tries again."""
    return bool(message) and not (message.startswith("Back-off pulling image") and ": " not in message)


def _node_lost(pod: dict[str, Any], now: datetime) -> Failure | None:
    """A pod whose node does not answer any more: its container may run or not.

    The node controller sets Ready to False and leaves ContainersReady, the kubelet's own word, as it was. The kubelet of
    a pod that is being deleted reports its end within the grace period.
    """
    status, metadata = pod.get("status") or {}, pod["metadata"]
    node = pod.get("spec", {}).get("nodeName")
    if not node:
        return None
    ready, containers = _condition(pod, "Ready"), _condition(pod, "ContainersReady")
    marked = (
        (ready or {}).get("status") == "False"
        and (containers or {}).get("status") == "True"
        and not pod.get("spec", {}).get("readinessGates")
    )
    deleted = moment(metadata.get("deletionTimestamp"))
    overdue = deleted is not None and (now - deleted).total_seconds() > OVERDUE_S and not never_ran(pod)
    if marked or overdue or status.get("reason") == "NodeLost" or status.get("phase") == "Unknown":
        return Failure(
            code="ERR_3010",
            message=f"The node {node} does not answer any more; its worker may still run or not.",
        )
    return None


def _disrupted(pod: dict[str, Any]) -> Failure | None:
    condition = _condition(pod, "DisruptionTarget")
    if condition is None or condition.get("status") != "True":
        return None
    return _removed(condition.get("reason") or "", condition.get("message") or "", pod)


def _removed(reason: str, message: str, pod: dict[str, Any]) -> Failure:
    words = f"{reason}: {message}".strip(": ")
    if reason in _NODE_LOST:
        node = pod.get("spec", {}).get("nodeName") or "of the pod"
        return Failure(code="ERR_3010", message=f"The node {node} left, or was lost ({words}).")
    return Failure(code="ERR_3009", message=f"The pod was evicted ({words}).")


def _deadline(pod: dict[str, Any]) -> Failure:
    limit = pod.get("spec", {}).get("activeDeadlineSeconds")
    ran = bool(_state(_worker(pod)))
    return Failure(
        code="ERR_1005" if ran else "ERR_3005",
        message=f"The pod was older than it may be (activeDeadlineSeconds {limit}), and the kubelet ended it.",
    )


def _ended(pod: dict[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") or "terminated" in _state(
        _worker(pod)
    )


def _exit_code(pod: dict[str, Any]) -> int | None:
    code = (_state(_worker(pod)).get("terminated") or {}).get("exitCode")
    return None if code is None else int(code)


def _statuses(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _worker(pod: dict[str, Any]) -> dict[str, Any]:
    found = ((pod.get("status") or {}).get("containerStatuses")) or ()
    return next((status for status in found if status["name"] == WORKER), {})


def _state(status: dict[str, Any]) -> dict[str, Any]:
    return status.get("state") or {}


def _condition(pod: dict[str, Any], kind: str) -> dict[str, Any] | None:
    found = (pod.get("status") or {}).get("conditions") or ()
    return next((condition for condition in found if condition["type"] == kind), None)


def _image(pod: dict[str, Any], container: str) -> str:
    spec = pod.get("spec") or {}
    found = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return next((str(each.get("image")) for each in found if each["name"] == container), "?")


def moment(text: str | None) -> datetime | None:
    """A time of Kubernetes'."""
    return None if not text else datetime.fromisoformat(text).astimezone(UTC)
