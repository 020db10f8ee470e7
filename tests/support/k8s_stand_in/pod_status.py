"""The status of a pod, put together from what is known of its containers, as the kubelet writes it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from support.k8s_stand_in import clock
from support.k8s_stand_in.scheduler import set_condition


@dataclass
class ContainerState:
    """One container at this moment: ``state`` has one key, ``waiting``, ``running`` or ``terminated``."""

    name: str
    image: str
    state: dict[str, Any]
    last_state: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    container_id: str = ""
    image_id: str = ""

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """None while it has not ended."""
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    def wait(self, reason: str, message: str = "") -> None:
        self.state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}

    def document(self, *, ready: bool) -> dict[str, Any]:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image_id,
            "containerID": f"docker://{self.container_id}" if self.container_id else "",
            "state": self.state,
            "lastState": self.last_state,
            "restartCount": self.restarts,
            "ready": ready,
            "started": self.running,
        }


def waiting(container: dict[str, Any], reason: str) -> ContainerState:
    return ContainerState(container["name"], container["image"], {"waiting": {"reason": reason}})


def terminated(
    exit_code: int, reason: str, *, started: str, message: str = "", container_id: str = ""
) -> dict[str, Any]:
    ended: dict[str, Any] = {
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": started,
        "finishedAt": clock.now(),
        "containerID": f"docker://{container_id}",
    }
    return {"terminated": ended | ({"message": message} if message else {})}


def phase(spec: dict[str, Any], first: list[ContainerState], main: list[ContainerState]) -> str:
    """``Pending``, ``Running``, ``Succeeded`` or ``Failed``."""
    policy = spec["restartPolicy"]
    failed_first = any(one.exit_code for one in first)
    if failed_first and policy == "Never":
        return "Failed"
    if any(one.exit_code != 0 for one in first):
        return "Pending"
    if any("waiting" in one.state and not one.last_state for one in main):
        return "Pending"
    if all(one.exit_code is not None for one in main) and policy != "Always":
        if all(one.exit_code == 0 for one in main):
            return "Succeeded"
        return "Failed" if policy == "Never" else "Running"
    return "Running"


def write(
    pod: dict[str, Any],
    first: list[ContainerState],
    main: list[ContainerState],
    *,
    phase: str,
    started: str,
    host: str,
    address: str,
    reason: str = "",
    message: str = "",
) -> None:
    """Bring ``pod["status"]`` up to date; conditions of others stay."""
    status = pod["status"]
    over = phase in ("Succeeded", "Failed")
    status |= {"phase": phase, "hostIP": host, "hostIPs": [{"ip": host}], "startTime": started}
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    for name, text in (("reason", reason), ("message", message)):
        if text:
            status[name] = text
    if first:
        status["initContainerStatuses"] = [one.document(ready=one.exit_code == 0) for one in first]
    status["containerStatuses"] = [one.document(ready=one.running and not over) for one in main]
    set_condition(status, "PodReadyToStartContainers", "False" if over or not address else "True")
    unfinished = [one.name for one in first if one.exit_code != 0]
    if unfinished:
        words = f"containers with incomplete status: [{' '.join(unfinished)}]"
        set_condition(status, "Initialized", "False", reason="ContainersNotInitialized", message=words)
    else:
        set_condition(
            status, "Initialized", "True", **({"reason": "PodCompleted"} if phase == "Succeeded" else {})
        )
    unready = [one.name for one in main if not one.running]
    for kind in ("Ready", "ContainersReady"):
        if over:
            why = "PodCompleted" if phase == "Succeeded" else "PodFailed"
            set_condition(status, kind, "False", reason=why)
        elif unready or unfinished:
            words = f"containers with unready status: [{' '.join(unready)}]"
            set_condition(status, kind, "False", reason="ContainersNotReady", message=words)
        else:
            set_condition(status, kind, "True")
