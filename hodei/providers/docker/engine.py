"""Connections to a Docker engine: a few clients that are lent out, one caller at a time, each call with a
time-out."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException
from docker.utils import kwargs_from_env

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError
from hodei.providers.docker import failures

Result = TypeVar("Result")
_KEPT = 16
"""So many idle clients are kept; more callers at once get clients that are closed afterwards."""


def find_address(configured: str | None) -> str:
    """Where Docker is: as configured, else ``DOCKER_HOST``, else its first usual socket that can be used."""
    if configured or os.environ.get("DOCKER_HOST"):
        return configured or os.environ["DOCKER_HOST"]
    usual = Path("/var/run/docker.sock")
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    for candidate in (usual, Path(runtime, "docker.sock"), Path.home() / ".docker/run/docker.sock"):
        if os.access(candidate, os.R_OK | os.W_OK):
            return f"unix://{candidate}"
    return f"unix://{usual}"


class Engine:
    """One Docker engine. Nothing connects before the first call; the CLI's contexts are not looked at."""

    def __init__(self, docker_host: str | None, *, timeout_s: float) -> None:
        self.address = find_address(docker_host)
        self.timeout_s = timeout_s
        self._tls = {} if docker_host else {k: v for k, v in kwargs_from_env().items() if k == "tls"}
        self._version: str | None = None
        self._idle: list[docker.APIClient] = []
        self._lock = threading.Lock()

    def call(self, ask: Callable[[docker.APIClient], Result]) -> Result:
        """Ask Docker something that may be asked twice: once more on a new connection when an old one broke.

        Raises APIError for what Docker refuses and ProviderError (ERR_5001, ERR_5006, ERR_5008) when there is
        no answer.
        """
        with self._translated(self.timeout_s):
            try:
                with self._lend() as client:
                    return ask(client)
            except requests.exceptions.ConnectionError:
                with self._lend(fresh=True) as client:
                    return ask(client)

    def quick(self, timeout_s: float, ask: Callable[[docker.APIClient], Result]) -> Result:
        """The same, once, on a connection of its own with a shorter time-out for each request."""
        with self._translated(timeout_s):
            client = self._open(timeout_s)
            try:
                return ask(client)
            finally:
                client.close()

    @contextmanager
    def stream(self, timeout_s: float) -> Iterator[docker.APIClient]:
        """A client of its own whose reads end after ``timeout_s`` without a byte."""
        with self._translated(timeout_s):
            client = self._open(timeout_s)
            try:
                yield client
            finally:
                client.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    @contextmanager
    def _lend(self, *, fresh: bool = False) -> Iterator[docker.APIClient]:
        with self._lock:
            client = self._idle.pop() if self._idle and not fresh else None
        client = client or self._open(self.timeout_s)
        keep = False
        try:
            yield client
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

    def _open(self, timeout_s: float) -> docker.APIClient:
        """A client; the engine's version is asked for only once."""
        self._knock(timeout_s)
        version = self._version
        if version is None:
            with closing(self._client("1.41", timeout_s)) as client:
                version = self._version = str(client.version(api_version=False)["ApiVersion"])
        return self._client(version, timeout_s)

    def _client(self, version: str, timeout_s: float) -> docker.APIClient:
        options: dict[str, Any] = {"timeout": timeout_s, "max_pool_size": 2} | self._tls
        return docker.APIClient(base_url=self.address, version=version, **options)

    def _knock(self, timeout_s: float) -> None:
        """See whether something listens at a socket: docker-py leaks its own socket when nothing does."""
        if not self.address.startswith("unix://"):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(timeout_s)
            try:
                probe.connect(self.address.removeprefix("unix://"))
            except (TimeoutError, BlockingIOError) as error:
                raise ProviderError(failures.silent(self.address, timeout_s), transient=True) from error
            except OSError as error:
                raise ProviderError(failures.unreachable(str(error), self.address), transient=True) from error

    @contextmanager
    def _translated(self, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except APIError:
            raise
        except (requests.exceptions.RequestException, DockerException) as error:
            raise self._reason(error, timeout_s) from error

    def _reason(self, error: Exception, timeout_s: float) -> ProviderError:
        if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error).lower():
            return ProviderError(failures.silent(self.address, timeout_s), transient=True)
        if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError):
            return ProviderError(failures.unreachable(str(error), self.address), transient=True)
        message = f"Docker at {self.address} cannot be used: {error}"
        return ProviderError(Failure(code="ERR_5008", message=message))


def words_of(error: APIError) -> str:
    """What Docker said, on one line."""
    return " ".join(str(error.explanation or error).split())


def status_of(error: APIError) -> int:
    return int(error.status_code or 500)
