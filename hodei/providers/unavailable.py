"""Stands in for a provider that cannot be opened in this installation, and says why to whoever asks."""

from __future__ import annotations

from typing import NoReturn
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.providers.contract import Capabilities, Health, ProviderError, ResourceView, WorkerRequest


class UnavailableProvider:
    """Never healthy; every verb raises ERR_3006 with the reason."""

    def __init__(self, provider_id: UUID, provider_type: str, reason: str) -> None:
        self.provider_id = provider_id
        self.provider_type = provider_type
        self.reason = reason

    def start(self, request: WorkerRequest) -> str:
        self._refuse()

    def prepare(self, image: str) -> None:
        self._refuse()

    def inspect(self, worker_id: UUID) -> ResourceView:
        self._refuse()

    def stop(self, worker_id: UUID, *, grace_s: float = 0.0) -> None:
        self._refuse()

    def list_workers(self, deployment: str) -> list[ResourceView]:
        self._refuse()

    def health(self) -> Health:
        return Health(ok=False, message=self.reason, checks={"installed": self.reason})

    def capabilities(self) -> Capabilities:
        return Capabilities(images=False, cpu_limits=False, memory_limits=False, limits_reason=self.reason)

    def close(self) -> None:
        """Nothing is open."""

    def _refuse(self) -> NoReturn:
        raise ProviderError(Failure(code="ERR_3006", message=self.reason), transient=True)
