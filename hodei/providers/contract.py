"""What the platform asks of a provider. ``tests/contract/test_provider_contract.py`` holds every adapter to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from hodei.domain.causes import Failure


class ProviderError(Exception):
    """A provider could not do what it was asked; ``failure`` says why in the platform's codes.

    ``transient``: asking again later may help.
    """

    def __init__(self, failure: Failure, *, transient: bool = False) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.transient = transient


class ImageMissing(ProviderError):
    """The image is not on the host and has to be pulled first: call :meth:`Provider.prepare`, outside any step."""

    def __init__(self, failure: Failure, *, image: str) -> None:
        super().__init__(failure, transient=True)
        self.image = image


@dataclass(frozen=True, kw_only=True)
class WorkerRequest:
    """All that a provider needs to make one worker.

    ``server_url`` is the address of worker-manager as seen from the worker; None: the provider's own answer.
    ``image`` None: the provider's default. ``cpu`` in cores, ``memory_bytes`` in bytes, None: the provider's default.
    ``one_time_token`` is secret: it may be handed to the worker alone and appear in no label or log.
    """

    worker_id: UUID
    one_time_token: str = field(repr=False)
    deployment: str
    job_id: UUID | None = None
    image: str | None = None
    cpu: float | None = None
    memory_bytes: int | None = None
    labels: dict[str, str] = field(default_factory=dict)


class ResourceState(StrEnum):
    """What a provider sees of a worker's infrastructure."""

    STARTING = "starting"  # it exists, and does not run yet
    RUNNING = "running"
    EXITED = "exited"  # it ran and ended; something of it (a stopped container) is still there
    GONE = "gone"  # nothing of it is left, or it never was


@dataclass(frozen=True, kw_only=True)
class ResourceView:
    """A worker's infrastructure at this moment.

    ``failure`` is set when the provider knows why it cannot start or why it ended (out of memory, image, exit code).
    """

    worker_id: UUID
    state: ResourceState
    resource_id: str | None = None
    exit_code: int | None = None
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the provider can take work, in a sentence for a person. ``checks`` are its parts, name → sentence."""

    ok: bool
    message: str
    checks: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What jobs may ask of the provider."""

    images: bool
    cpu_limits: bool
    memory_limits: bool
    gpus: bool = False
    limits_reason: str | None = None


class Provider(Protocol):
    """One place where workers are made.

    Every call has its own deadline and ends with an answer or a :class:`ProviderError`; none blocks for ever. Workers
    are found by name and label, so every answer is right also after a restart, and from another process.
    """

    provider_id: UUID
    provider_type: str

    def start(self, request: WorkerRequest) -> str:
        """Make the worker and start it; return its resource id (container id, pod name, pid).

        Idempotent by ``worker_id``: called again, also after a crash half-way, it finishes what is there and returns the same id.
        Raises :class:`ImageMissing` when the image must be pulled first; nothing is left of the try then.
        """

    def prepare(self, image: str) -> None:
        """Bring the image to the host. May take minutes; never called from a saga's step. No-op where others pull."""

    def inspect(self, worker_id: UUID) -> ResourceView:
        """Look at one worker's infrastructure. GONE is an answer, not an error; not being able to look is an error."""

    def stop(self, worker_id: UUID, *, grace_s: float = 0.0) -> None:
        """End the worker and remove all that was made for it; return only when nothing is left.

        What runs gets TERM, and KILL after ``grace_s``; 0: KILL at once. Succeeds when it is already gone.
        """

    def list_workers(self, deployment: str) -> list[ResourceView]:
        """All workers of this deployment, running or exited; never anything of another deployment."""

    def health(self) -> Health:
        """Look whether the provider works right now. Never raises; takes at most a few seconds."""

    def capabilities(self) -> Capabilities:
        """What jobs may ask for here."""

    def close(self) -> None:
        """Let go of connections. Workers go on."""
