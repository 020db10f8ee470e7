"""The Docker provider: the contract's verbs in as few calls to the engine as they can be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from docker.errors import APIError

from hodei.domain.causes import Failure
from hodei.providers.configuration import read_config
from hodei.providers.contract import (
    Capabilities,
    Health,
    ImageMissing,
    ProviderError,
    ResourceState,
    ResourceView,
    WorkerRequest,
)
from hodei.providers.docker import container, failures, view
from hodei.providers.docker.config import DockerConfig
from hodei.providers.docker.engine import Engine, status_of, words_of
from hodei.providers.docker.images import Images
from hodei.providers.docker.injection import agent_archive
from hodei.providers.docker.pull import pull

Result = TypeVar("Result")
HEALTH_CALL_S = 1.2
"""For each of the two calls that a look at the health makes, so that it answers within 3 s."""

NAME_S = 20.0
"""How long a name may be taken by a container that cannot be looked at: another start is just making it, or a
removal runs."""

STARTS_WITHIN_S = 10.0
"""So soon after it was made a container that does not run yet is nothing unusual."""

CLOSER_LOOK_S = 1.0
"""For one call about a container that does not start: the engine may hold it for as long as a start takes."""

REMOVAL_S = 60.0
"""How long a removal may take: a busy host needs its time to take a large file system down."""


class DockerProvider:
    """Workers as containers of one Docker engine. Safe to share between threads."""

    provider_type = "docker"

    def __init__(
        self,
        provider_id: UUID,
        *,
        server_url: str,
        default_image: str,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.provider_id = provider_id
        self.server_url = server_url
        self.default_image = default_image
        self.config = read_config(DockerConfig, config)
        self.engine = Engine(self.config.docker_host, timeout_s=self.config.call_timeout_s)
        self._images = Images(self.engine)
        self._limits: Capabilities | None = None

    def start(self, request: WorkerRequest) -> str:
        """Create the container and start it; what an earlier try left is finished."""
        image = request.image or self.default_image
        facts = self._ask(lambda: self._images.facts(image), image)
        inject = not facts.has_agent
        body = container.create_body(
            request,
            self.config,
            image=image,
            server_url=self.server_url,
            inject_agent=inject,
            image_user=facts.user,
        )
        name = container.container_name(request.worker_id)
        deadline = time.monotonic() + NAME_S
        pause_s = 0.01
        while True:
            try:
                return self._run(self._create(body, name), image, inject=inject)
            except _NameTaken as error:
                resource_id = self._finish(request.worker_id, name, image)
                if resource_id is not None:
                    return resource_id
                if time.monotonic() > deadline:
                    message = f"The container {name} neither comes nor goes; look at it with docker ps --all."
                    failure = Failure(code="ERR_5006", message=message)
                    raise ProviderError(failure, transient=True) from error
            time.sleep(pause_s)
            pause_s = min(0.5, pause_s * 2)

    def prepare(self, image: str) -> None:
        """Pull the image unless it is there. Our own worker image is never looked for in a registry."""
        try:
            self._images.facts(image)
        except ImageMissing:
            if failures.is_builtin(image):
                raise ProviderError(failures.not_built(image)) from None
            pull(self.engine, image, self.config)
            self._images.forget(image)
        except APIError as error:
            raise ProviderError(failures.pull_failed(words_of(error), image=image)) from error

    def inspect(self, worker_id: UUID) -> ResourceView:
        found = self._look(worker_id)
        return view.gone(worker_id) if found is None else view.from_inspect(worker_id, found)

    def stop(self, worker_id: UUID, *, grace_s: float = 0.0) -> None:
        """Kill and remove in one call, or stop first when there is a grace period."""
        found = self._look(worker_id)
        if found is None:
            return
        resource_id = str(found["Id"])
        if grace_s > 0 and found["State"].get("Running"):
            self._ask(
                lambda: self._unless_gone(lambda client: client.stop(resource_id, timeout=math.ceil(grace_s)))
            )
        self._remove(worker_id, resource_id)

    def list_workers(self, deployment: str) -> list[ResourceView]:
        filters = container.owned_filter(deployment)
        rows = self._ask(
            lambda: self.engine.call(lambda client: client.containers(all=True, filters=filters))
        )
        return [seen for seen in map(self._listed, rows) if seen is not None]

    def health(self) -> Health:
        try:
            return self.engine.quick(HEALTH_CALL_S, self._examine)
        except ProviderError as error:
            return Health(ok=False, message=error.failure.message, checks={"engine": error.failure.message})
        except APIError as error:
            message = f"Docker at {self.engine.address} refuses: {words_of(error)}"
            return Health(ok=False, message=message, checks={"engine": message})

    def capabilities(self) -> Capabilities:
        """As Docker tells of its kernel, asked once, and of its bridge, which may come back elsewhere."""
        if self._limits is None:
            info = self._ask(lambda: self.engine.call(lambda client: client.info()))
            cpu, memory = bool(info.get("CpuCfsQuota")), bool(info.get("MemoryLimit"))
            reason = None if cpu and memory else "the Docker host's kernel does not offer these cgroup limits"
            self._limits = Capabilities(
                images=True, cpu_limits=cpu, memory_limits=memory, limits_reason=reason
            )
        try:
            return replace(self._limits, host_gateway=self.bridge_gateway())
        except ProviderError:
            return self._limits

    def bridge_gateway(self) -> str | None:
        """The address that `host-gateway` stands for in a container: Docker's host on its default bridge.

        It is the same whatever network the workers are in. worker-manager listens there for them, where it is an address of
        its own: not with Docker Desktop or a remote engine, whose workers come by another way.
        """
        network = self._ask(lambda: self.engine.call(lambda client: client.inspect_network("bridge")))
        return container.gateway_of(network)

    def close(self) -> None:
        self.engine.close()

    def _examine(self, client: Any) -> Health:
        version = client.version(api_version=False)
        details = {"version": version.get("Version"), "api_version": version.get("ApiVersion")}
        checks = {"engine": f"Docker {version.get('Version')} answers at {self.engine.address}."}
        message = checks["engine"]
        try:
            self._images.learn(self.default_image, client.inspect_image(self.default_image))
            checks["image"] = f"The worker image {self.default_image} is there."
        except APIError as error:
            if status_of(error) != 404:
                raise
            checks["image"] = failures.missing(self.default_image).message
            message = f"{message} {checks['image']}"
        return Health(ok=True, message=message, checks=checks, details=details)

    def _create(self, body: dict[str, Any], name: str) -> str:
        created = self._ask(
            lambda: self.engine.call(lambda client: client.create_container_from_config(body, name=name)),
            str(body["Image"]),
            name_taken_is_fine=True,
        )
        return str(created["Id"])

    def _finish(self, worker_id: UUID, name: str, image: str) -> str | None:
        """What to do with the container that has the name already: its id, or None when it just comes or
        goes."""
        found = self._named(name)
        if found is None:
            return None
        if not container.is_worker(found["Config"].get("Labels"), worker_id):
            message = f"There is a container {name} that Hodei did not make; remove it with docker rm {name}."
            raise ProviderError(Failure(code="ERR_5005", message=message))
        status = found["State"]["Status"]
        refused = status == "created" and bool(found["State"].get("Error"))
        if refused or status in {"removing", "dead"}:  # the engine could not start it, and never will
            self.stop(worker_id)
            return None
        if status == "created":
            inject = container.AGENT_INJECTED in found["Config"]["Labels"]
            return self._run(str(found["Id"]), image, inject=inject)
        return str(found["Id"])

    def _run(self, resource_id: str, image: str, *, inject: bool) -> str:
        """Start a created container; one that cannot be started is removed."""
        try:
            if inject:
                self._ask(
                    lambda: self.engine.call(
                        lambda client: client.put_archive(resource_id, "/", agent_archive())
                    ),
                    image,
                )
            self._ask(lambda: self.engine.call(lambda client: client.start(resource_id)), image)
        except ProviderError as error:
            if not error.transient:
                with suppress(APIError, ProviderError):  # the reason matters; a rest is swept up later
                    self._unless_gone(lambda client: client.remove_container(resource_id, v=True, force=True))
            raise
        return resource_id

    def _remove(self, worker_id: UUID, resource_id: str) -> None:
        """Kill and remove; returns only when nothing is left."""
        deadline = time.monotonic() + REMOVAL_S
        pause_s = 0.01
        while True:
            try:
                return self._unless_gone(
                    lambda client: client.remove_container(resource_id, v=True, force=True)
                )
            except APIError as error:  # 409: another removal is under way; 500: the file system is busy
                if status_of(error) not in {409, 500} or time.monotonic() > deadline:
                    raise self._removal_failed(worker_id, words_of(error)) from error
            time.sleep(pause_s)
            pause_s = min(0.5, pause_s * 2)

    def _listed(self, row: dict[str, Any]) -> ResourceView | None:
        """What a row of a list shows. Of a container that never ran it does not say whether it still may; nor does the engine
        while it is just being started: that holds up no other's view."""
        seen = view.from_list(row)
        is_new = 0 <= time.time() - row["Created"] < STARTS_WITHIN_S
        if seen is None or seen.state is not ResourceState.STARTING or is_new:
            return seen
        name = container.container_name(seen.worker_id)
        try:
            found = self.engine.quick(CLOSER_LOOK_S, lambda client: client.inspect_container(name))
        except (APIError, ProviderError):
            return seen
        return view.from_inspect(seen.worker_id, found)

    def _look(self, worker_id: UUID) -> dict[str, Any] | None:
        """The worker's container; None when there is none, or one with its name that is not ours."""
        found = self._named(container.container_name(worker_id))
        if found is not None and not container.is_worker(found["Config"].get("Labels"), worker_id):
            return None
        return found

    def _named(self, name: str) -> dict[str, Any] | None:
        try:
            return self.engine.call(lambda client: client.inspect_container(name))
        except APIError as error:
            if status_of(error) == 404:
                return None
            raise ProviderError(failures.refused(status_of(error), words_of(error), image=name)) from error

    def _unless_gone(self, ask: Callable[[Any], object]) -> None:
        try:
            self.engine.call(ask)
        except APIError as error:
            if status_of(error) != 404:
                raise

    def _ask(self, ask: Callable[[], Result], image: str = "", *, name_taken_is_fine: bool = False) -> Result:
        """Ask, and say Docker's refusal in the platform's words."""
        try:
            return ask()
        except APIError as error:
            status, words = status_of(error), words_of(error)
            if status == 404 and "no such image" in words.lower():
                self._images.forget(image)
                raise ImageMissing(failures.missing(image), image=image) from error
            if status == 409 and name_taken_is_fine and "in use" in words.lower():
                raise _NameTaken from error
            failure = failures.refused(status, words, image=image)
            raise ProviderError(failure, transient=failure.is_infrastructure and status >= 500) from error

    def _removal_failed(self, worker_id: UUID, words: str) -> ProviderError:
        name = container.container_name(worker_id)
        message = f"The container {name} cannot be removed: {words}"
        return ProviderError(Failure(code="ERR_5006", message=message), transient=True)


class _NameTaken(Exception):
    """There is a container with this name already."""
