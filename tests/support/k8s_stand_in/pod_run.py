"""One pod on the node, from its first container to its removal: a thread that does what the kubelet does for it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from docker.errors import APIError, DockerException

from support.k8s_stand_in import clock, containers, deletion, environment, pod_status, pulls
from support.k8s_stand_in.engine import LABEL, NAME_PREFIX
from support.k8s_stand_in.environment import NotReady
from support.k8s_stand_in.fate import End, Fate
from support.k8s_stand_in.pod_defaults import all_containers
from support.k8s_stand_in.pod_status import ContainerState, terminated
from support.k8s_stand_in.resources import PODS
from support.k8s_stand_in.store import Object
from support.k8s_stand_in.surroundings import Surroundings
from support.k8s_stand_in.teller import Teller
from support.k8s_stand_in.volumes import Volumes

RETRY_S = 1.0
BACK_OFF_S = 10.0
LOG_DRAIN_S = 5.0
KILLED_WITHIN_S = 30.0
LOG_LINES = 80
LOG_BYTES = 2048
Made = TypeVar("Made")
Container = tuple[dict[str, Any], ContainerState]
"""A container as the pod's spec has it, and how it is."""


class PodRun:
    """``fate`` takes the news of the pod."""

    def __init__(self, around: Surroundings, pod: Object) -> None:
        self.fate = Fate(pod)
        self.uid = str(pod["metadata"]["uid"])
        self._around = around
        spec = pod["spec"]
        reason = "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
        self._first = [pod_status.waiting(one, reason) for one in spec.get("initContainers") or ()]
        self._main = [pod_status.waiting(one, reason) for one in spec["containers"]]
        self._volumes = Volumes(around.store, pod, around.folder / self.uid)
        self._teller = Teller(around.store, around.node, self.fate, self._first, self._main, around.address)
        self._thread = threading.Thread(target=self._run, name=f"k8s-pod-{self.uid}", daemon=True)
        self._waiters: list[threading.Thread] = []
        self._made = 0
        self._cleared = False

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)
        for waiter in self._waiters:
            waiter.join(10)

    def kill(self) -> None:
        """Kill the first process of every running container, as somebody on the node would."""
        for one in self._running():
            self._around.engine.kill(one.container_id, "KILL")

    def container(self, name: str) -> ContainerState | None:
        return next((one for one in (*self._first, *self._main) if one.name == name), None)

    def _run(self) -> None:
        try:
            end: End | None = None
            try:
                self._live()
            except End as found:
                end = found
            self._finish(end)
        except (DockerException, OSError):
            if not self.fate.stopping:
                traceback.print_exc()
        finally:
            with suppress(DockerException):
                self._clear()

    # Its life

    def _live(self) -> None:
        """Until all containers have ended for good. Raises End."""
        self._teller.report()
        self._patiently(self._volumes.make, self._mount_failed)
        for container in zip(self.fate.pod["spec"].get("initContainers") or (), self._first, strict=True):
            self._begin(container)
            one = container[1]
            self._until(lambda one=one: one.exit_code is not None)
            if one.exit_code:
                return
        for container in self._containers():
            self._begin(container)
        while again := self._await_containers():
            for container in again:
                self._restart(container)

    def _begin(self, container: Container) -> None:
        """Get the image, make the container, start it. Raises End."""
        spec, one = container
        engine = self._around.engine
        image = self._image(container)
        body = self._patiently(
            lambda: self._body(spec, image),
            lambda words: self._fail(one, "CreateContainerConfigError", words),
        )
        self._made += 1
        try:
            one.container_id = engine.create(f"{NAME_PREFIX}{self.uid}-{self._made}", body)
        except APIError as error:
            self._fail(one, "CreateContainerError", _words(error))
            self._until(lambda: False)
        self._teller.say("Normal", "Created", f"Created container: {one.name}", one.name)
        one.image_id = str(image["Id"])
        try:
            engine.start(one.container_id)
        except APIError as error:
            words = f"failed to create containerd task: failed to create shim task: {_words(error)}"
            self._teller.say("Warning", "Failed", f"Error: {words}", one.name)
            one.state = terminated(
                128, "StartError", started=clock.EPOCH, message=words, container_id=one.container_id
            )
            return
        self._teller.say("Normal", "Started", f"Started container {one.name}", one.name)
        seen = engine.inspect(one.container_id)
        self._teller.address = seen["NetworkSettings"]["IPAddress"] or self._teller.address
        one.state = {"running": {"startedAt": clock.now()}}
        waiter = threading.Thread(target=self._await_end, args=(one,), daemon=True)
        self._waiters.append(waiter)
        waiter.start()
        self._teller.report()

    def _await_end(self, one: ContainerState) -> None:
        """Note how a started container ended."""
        engine, container = self._around.engine, one.container_id
        try:
            engine.wait(container)
            seen = engine.inspect(container)["State"]
            code, out_of_memory = int(seen["ExitCode"]), bool(seen.get("OOMKilled"))
        except (DockerException, OSError):
            code, out_of_memory = 137, False
        reason = "OOMKilled" if out_of_memory else "Completed" if code == 0 else "Error"
        words = self._last_words(one, code)
        with self.fate.changing():
            began = one.state["running"]["startedAt"]
            one.state = terminated(code, reason, started=began, container_id=container, message=words)

    def _last_words(self, one: ContainerState, code: int) -> str:
        """The container's termination message, or the end of its log where it wants that."""
        spec = next(
            one_spec for one_spec in all_containers(self.fate.pod["spec"]) if one_spec["name"] == one.name
        )
        words = self._volumes.last_words(one.name)
        if words or not code or spec["terminationMessagePolicy"] != "FallbackToLogsOnError":
            return words
        with suppress(DockerException):
            lines = b"".join(self._around.engine.log(one.container_id, tail=LOG_LINES))
            return lines[-LOG_BYTES:].decode(errors="replace")
        return ""

    def _await_containers(self) -> list[Container]:
        """Those that have ended and are to run again; none: all have ended for good. Raises End."""
        policy = self.fate.pod["spec"]["restartPolicy"]

        def again() -> list[Container]:
            ended = [container for container in self._containers() if container[1].exit_code is not None]
            return [
                one for one in ended if policy == "Always" or (policy == "OnFailure" and one[1].exit_code)
            ]

        self._until(lambda: bool(again()) or all(one.exit_code is not None for one in self._main))
        return again()

    def _restart(self, container: Container) -> None:
        _, one = container
        meta = self.fate.pod["metadata"]
        one.last_state, one.restarts = one.state, one.restarts + 1
        where = f"pod={meta['name']}_{meta['namespace']}({self.uid})"
        one.wait(
            "CrashLoopBackOff", f"back-off {BACK_OFF_S:g}s restarting failed container={one.name} {where}"
        )
        self._teller.say(
            "Warning", "BackOff", f"Back-off restarting failed container {one.name} in {where}", one.name
        )
        self._pause(BACK_OFF_S)
        self._around.engine.remove(one.container_id)
        self._begin(container)

    def _image(self, container: Container) -> dict[str, Any]:
        """What the engine knows of the image, once it is there. Raises End."""
        spec, one = container
        image, say = spec["image"], self._teller.say
        while isinstance(
            found := pulls.find(self._around.engine, image, spec["imagePullPolicy"]), pulls.PullFailure
        ):
            self._fail(one, found.reason, found.message)
            if found.reason != "ErrImagePull":
                kind = "InspectFailed" if found.reason == "InvalidImageName" else found.reason
                say("Warning", kind, found.message, one.name)
            else:
                say("Normal", "Pulling", f'Pulling image "{image}"', one.name)
                say("Warning", "Failed", f'Failed to pull image "{image}": {found.message}', one.name)
                self._pause(self._around.pull_back_off_s)
                words = f'Back-off pulling image "{image}"'
                say("Normal", "BackOff", words, one.name)
                cause = f": {found.reason}: {found.message}" if self._around.back_off_words else ""
                self._fail(one, "ImagePullBackOff", f"{words}{cause}")
            self._pause(BACK_OFF_S)
        say("Normal", "Pulled", f'Container image "{image}" already present on machine', one.name)
        return found

    def _body(self, spec: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
        """Raises NotReady."""
        pod = self.fate.pod
        binds, memory = self._volumes.mounts(spec)
        return containers.body(
            pod,
            spec,
            image=image,
            variables=environment.variables(self._around.store, pod, spec),
            binds=binds,
            memory_mounts=memory,
            labels={LABEL: self._around.label, f"{LABEL}.pod": pod["metadata"]["name"]},
        )

    # Its end

    def _finish(self, end: End | None) -> None:
        """What runs is ended, what became of it written down; when the pod is deleted, everything goes."""
        self._end_containers(end)
        self._teller.report(end, over=True)
        if not self.fate.wait(lambda: self.fate.deleted):
            return
        self._clear()
        while not self._around.node.answers:
            if self.fate.stopping:
                return
            time.sleep(RETRY_S / 10)
        meta = self.fate.pod["metadata"]
        deletion.finish(self._around.store, PODS, meta["namespace"], meta["name"], self.uid)

    def _end_containers(self, end: End | None) -> None:
        """TERM, the grace period, KILL; at once KILL when the node is switched off."""
        for one in self._running():
            if not self.fate.stopping:
                self._teller.say("Normal", "Killing", f"Stopping container {one.name}", one.name)
                self._around.engine.kill(one.container_id, "TERM")
        if not self.fate.wait(lambda: not self._running(), within_s=lambda: self.fate.grace_s(end)):
            self.kill()
            deadline = time.monotonic() + KILLED_WITHIN_S
            for waiter in self._waiters:
                waiter.join(max(0.0, deadline - time.monotonic()))

    def _clear(self) -> None:
        """Nothing of the pod stays on the machine; whoever reads a log may read it to its end."""
        if self._cleared:
            return
        self._cleared = True
        self.fate.log_is_read(LOG_DRAIN_S)
        image = None
        for one in (*self._first, *self._main):
            if one.container_id:
                self._around.engine.remove(one.container_id)
                image = one.image
        self._volumes.remove(image)

    def _running(self) -> list[ContainerState]:
        return [one for one in (*self._first, *self._main) if one.running]

    def _containers(self) -> list[Container]:
        return list(zip(self.fate.pod["spec"]["containers"], self._main, strict=True))

    # Waiting, and saying for what

    def _until(self, fact: Callable[[], bool]) -> None:
        self.fate.until(fact, self._teller.report)

    def _pause(self, seconds: float) -> None:
        self.fate.until(lambda: False, self._teller.report, within_s=seconds)

    def _patiently(self, act: Callable[[], Made], failed: Callable[[str], None]) -> Made:
        """Try until it works: what is missing may still come. Raises End."""
        while True:
            try:
                return act()
            except NotReady as error:
                failed(str(error))
                self._pause(RETRY_S)

    def _fail(self, one: ContainerState, reason: str, words: str) -> None:
        """The container waits, and the kubelet says why."""
        one.wait(reason, words)
        self._teller.say("Warning", "Failed", f"Error: {reason if 'Image' in reason else words}", one.name)
        self._teller.report()

    def _mount_failed(self, words: str) -> None:
        self._teller.say("Warning", "FailedMount", f"MountVolume.SetUp failed for volume: {words}")


def _words(error: APIError) -> str:
    return " ".join(str(error.explanation or error).split())
