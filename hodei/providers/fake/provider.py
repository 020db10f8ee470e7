"""The fake provider: the contract's verbs as questions to the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

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
from hodei.providers.exits import agent_exit
from hodei.providers.fake.client import FleetClient, socket_path
from hodei.providers.fake.config import MISSING_IMAGES, UNKNOWN_IMAGES, FakeConfig

MARGIN_S = 30.0
"""What an answer may take beyond the time that was asked for."""


class FakeProvider:
    """Workers that are played by a fleet. Safe to share between threads."""

    provider_type = "fake"

    def __init__(
        self, provider_id: UUID, *, server_url: str, data_dir: Path, config: dict[str, Any] | None = None
    ) -> None:
        self.provider_id = provider_id
        self.server_url = server_url
        self.config = read_config(FakeConfig, config)
        self.fleet = FleetClient(self.config.socket or socket_path(data_dir))

    def start(self, request: WorkerRequest) -> str:
        if self.config.start_failure is not None:
            message = "This fake provider is set to fail every start."
            raise ProviderError(Failure(code=self.config.start_failure, message=message), transient=True)
        if request.image:
            self._need(request.image)
        delay_s = self.config.start_delay_s
        worker = self.fleet.ask(
            "start",
            answer_s=delay_s + MARGIN_S,
            worker_id=str(request.worker_id),
            deployment=request.deployment,
            token=request.one_time_token,
            server_url=self.server_url,
            delay_s=delay_s,
            connects=self.config.connects and bool(self.server_url),
        )
        return str(worker["resource_id"])

    def prepare(self, image: str) -> None:
        """Act a pull out: it takes as long as is configured."""
        if image.startswith(UNKNOWN_IMAGES):
            message = f"The image {image} cannot be pulled: manifest unknown; check the image's name."
            raise ProviderError(Failure(code="ERR_3001", message=message))
        if not image.startswith(MISSING_IMAGES):
            return
        timeout_s = self.config.pull_timeout_s
        pull_s = self.config.pull_s
        answer = self.fleet.ask(
            "pull", answer_s=timeout_s + MARGIN_S, image=image, pull_s=pull_s, timeout_s=timeout_s
        )
        if not answer["there"]:
            message = f"The pull of {image} was not complete within {timeout_s:g} s."
            raise ProviderError(Failure(code="ERR_3003", message=message), transient=True)

    def finish_pull(self, image: str) -> None:
        """Let a pull that hangs come to its end."""
        self.fleet.ask("finish_pull", image=image)

    def kill(self, worker_id: UUID) -> None:
        """End a worker from outside, as a crash would: it is seen as exited."""
        self.fleet.ask("kill", worker_id=str(worker_id))

    def inspect(self, worker_id: UUID) -> ResourceView:
        return _view(self.fleet.ask("inspect", worker_id=str(worker_id)))

    def stop(self, worker_id: UUID, *, grace_s: float = 0.0) -> None:
        self.fleet.ask("stop", answer_s=grace_s + MARGIN_S, worker_id=str(worker_id), grace_s=grace_s)

    def list_workers(self, deployment: str) -> list[ResourceView]:
        return [_view(worker) for worker in self.fleet.ask("list", deployment=deployment)["workers"]]

    def health(self) -> Health:
        try:
            fleet = self.fleet.ask("health", answer_s=2.0)
        except ProviderError as error:
            return Health(ok=False, message=error.failure.message, checks={"fleet": error.failure.message})
        message = f"The fleet at {self.fleet.path} plays {fleet['workers']} workers."
        return Health(ok=True, message=message, checks={"fleet": message}, details=fleet)

    def capabilities(self) -> Capabilities:
        return Capabilities(images=True, cpu_limits=True, memory_limits=True)

    def close(self) -> None:
        """Nothing is held open. The fleet and its workers go on."""

    def shut_down_fleet(self) -> None:
        """End the fleet with all its workers: for the end of a test or a load run."""
        self.fleet.ask("shutdown")

    def _need(self, image: str) -> None:
        if not image.startswith((MISSING_IMAGES, UNKNOWN_IMAGES)):
            return
        if not self.fleet.ask("has_image", image=image)["there"]:
            failure = Failure(code="ERR_3001", message=f"The image {image} has to be pulled first.")
            raise ImageMissing(failure, image=image)


def _view(worker: dict[str, Any]) -> ResourceView:
    code = worker.get("exit_code")
    return ResourceView(
        worker_id=UUID(worker["worker_id"]),
        state=ResourceState(worker["state"]),
        resource_id=worker.get("resource_id"),
        exit_code=code,
        failure=agent_exit(code),
    )
