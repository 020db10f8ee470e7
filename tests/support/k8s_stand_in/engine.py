"""The local Docker engine, which runs the pods' containers in the place of containerd."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

Result = TypeVar("Result")
NAME_PREFIX = "k8s-stand-in-"
LABEL = "k8s-stand-in"
_KEPT = 8


class Engine:
    """Clients that are lent out to one caller at a time: one of docker-py's is not for many threads."""

    def __init__(self) -> None:
        self._idle: list[docker.APIClient] = []
        self._lock = threading.Lock()
        self._version = "auto"

    def missing(self) -> str | None:
        """Why there is no engine here; None when there is one."""
        try:
            self._ask(lambda client: client.ping())
        except (DockerException, OSError) as error:
            return f"no Docker engine is reachable: {error}"
        return None

    def address_of_this_machine(self) -> str:
        """The address under which containers reach this machine."""
        network = self._ask(lambda client: client.inspect_network("bridge"))
        config = network["IPAM"]["Config"][0]
        return str(config.get("Gateway") or config["Subnet"].rpartition(".")[0] + ".1").partition("/")[0]

    def image(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._ask(lambda client: client.inspect_image(name))
            return found
        except (ImageNotFound, NotFound):
            return None

    def create(self, name: str, body: dict[str, Any]) -> str:
        """Raises APIError."""
        return str(self._ask(lambda client: client.create_container_from_config(body, name=name))["Id"])

    def start(self, container: str) -> None:
        """Raises APIError when the runtime cannot start it."""
        self._ask(lambda client: client.start(container))

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(lambda client: client.inspect_container(container))
        return found

    def wait(self, container: str) -> None:
        """Return when the container has ended or is no more."""
        with contextlib.suppress(NotFound):
            self._ask(lambda client: client.wait(container))

    def kill(self, container: str, signal: str) -> None:
        """Succeeds when it has ended already."""
        with contextlib.suppress(APIError):
            self._ask(lambda client: client.kill(container, signal))

    def remove(self, container: str) -> None:
        with contextlib.suppress(NotFound):
            self._ask(lambda client: client.remove_container(container, v=True, force=True))

    def named(self, label: str) -> list[str]:
        """The ids of all containers with the label, running or not."""
        found = self._ask(lambda client: client.containers(all=True, quiet=True, filters={"label": label}))
        return [str(one["Id"]) for one in found]

    def labels(self) -> dict[str, str]:
        """Of every container of any stand-in on this engine: id → value of the label."""
        found = self._ask(lambda client: client.containers(all=True, filters={"label": LABEL}))
        return {str(one["Id"]): str(one["Labels"][LABEL]) for one in found}

    def log(self, container: str, **options: Any) -> Iterator[bytes]:
        """Stdout and stderr as they come, mixed; with ``follow``, until the container's end."""
        client = self._open()
        try:
            given = 0
            stream = client.logs(container, stdout=True, stderr=True, stream=True, **options)
            try:
                for block in stream:
                    given += len(block)
                    yield block
            finally:
                stream.close()
            if options.get("follow") and "tail" not in options:  # Docker forgets a last line that has no end
                client.wait(container)
                whole = client.logs(container, stdout=True, stderr=True, timestamps=options["timestamps"])
                yield whole[given:]
        except NotFound:
            return
        finally:
            client.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    def _ask(self, question: Callable[[docker.APIClient], Result]) -> Result:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        client = client or self._open()
        keep = False
        try:
            answer = question(client)
            keep = True
        except APIError:
            keep = True
            raise
        finally:
            with self._lock:
                keep = keep and len(self._idle) < _KEPT
                if keep:
                    self._idle.append(client)
            if not keep:
                client.close()
        return answer

    def _open(self) -> docker.APIClient:
        client = docker.APIClient(version=self._version, timeout=60)
        self._version = client.api_version
        return client
