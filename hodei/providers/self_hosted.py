"""Self-hosted workers as a provider: it makes none, sees none, and ends none. What is known of them their agents say."""

from __future__ import annotations

from uuid import UUID

from hodei.domain.causes import Failure
from hodei.domain.self_hosted import SELF_HOSTED
from hodei.providers.contract import (
    Capabilities,
    Health,
    ProviderError,
    ResourceState,
    ResourceView,
    WorkerRequest,
)

CAPABILITIES = Capabilities(
    images=False,
    cpu_limits=False,
    memory_limits=False,
    limits_reason="self-hosted workers run jobs as processes of their host, without limits of their own",
)


class SelfHostedProvider:
    """The place of all self-hosted workers. A person starts and ends them, so nobody else can say how their hosts are."""

    provider_type = SELF_HOSTED

    def __init__(self, provider_id: UUID) -> None:
        self.provider_id = provider_id

    def start(self, request: WorkerRequest) -> str:
        """Never asked for: no place is promised here. Raises ProviderError."""
        sentence = "Self-hosted workers are started by hand. Register one: hodei worker register"
        raise ProviderError(Failure(code="ERR_3006", message=sentence))

    def prepare(self, image: str) -> None:
        """They run no images."""

    def inspect(self, worker_id: UUID) -> ResourceView:
        """Nothing can be seen but what the agent says: it counts as running until it was silent for too long."""
        return ResourceView(worker_id=worker_id, state=ResourceState.RUNNING)

    def stop(self, worker_id: UUID, *, grace_s: float = 0.0) -> None:
        """Its agent was told to leave and has left, or its lease has run out: nothing of ours is on its host."""

    def list_workers(self, deployment: str) -> list[ResourceView]:
        return []

    def health(self) -> Health:
        return Health(ok=True, message="Self-hosted workers call by themselves; see: hodei worker list")

    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def close(self) -> None:
        """Nothing is open."""
