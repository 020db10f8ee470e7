"""What the platform asks of a provider. ``tests/contract/test_provider_contract.py`` holds every adapter to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

import structlog

from hodei.domain.causes import Failure
from hodei.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)


class ProviderError(Exception):
    """A provider could not do what it was asked; ``failure`` says why in the platform's codes.

    ``transient``: asking again later may help.
    """

    def __init__(self, failure: Failure, *, transient: bool = False) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.transient = transient

    def __reduce__(self) -> Any:
        """What Celery makes of an error that a task raised."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[ProviderError], args: tuple[str], facts: dict[str, Any]) -> ProviderError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


@contextmanager
def as_provider_errors() -> Iterator[None]:
    """What no provider should raise is a ProviderError, too: one provider's own fault is no answer, and stops nothing else."""
    try:
        yield
    except (ProviderError, DatabaseUnavailable):
        raise
    except Exception as error:
        log.exception("provider.failed")
        message = f"The provider failed: {type(error).__name__}: {error}"
        raise ProviderError(Failure(code="ERR_5008", message=message), transient=True) from error


class ImageMissing(ProviderError):
    """The image is not on the host and has to be pulled first: call :meth:`Provider.prepare`, outside any step."""

    def __init__(self, failure: Failure, *, image: str) -> None:
        super().__init__(failure, transient=True)
        self.image = image


@dataclass(frozen=True, kw_only=True)
class WorkerRequest:
    """All that a provider needs to make one worker.

    ``server_url`` is the address of worker-manager as seen from the worker; None: the provider's own answer. ``image``
    None: the provider's default. ``cpu`` in cores, ``memory_bytes`` in bytes, None: the provider's default.
    ``lifetime_s``: after so many seconds the worker has no business any more, whatever happened to us; None: nobody
    knows. ``patience_s``: how long :meth:`Provider.start` may wait until the worker runs, where that takes longer than to
    ask for it. ``one_time_token`` is secret: it may be handed to the worker alone and appear in no label or log.
    """

    worker_id: UUID
    one_time_token: str = field(repr=False)
    deployment: str
    job_id: UUID | None = None
    image: str | None = None
    cpu: float | None = None
    memory_bytes: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    lifetime_s: float | None = None
    patience_s: float = 30.0


class ResourceState(StrEnum):
    """What a provider sees of a worker's infrastructure."""

    STARTING = "starting"  # it exists, and does not run yet
    RUNNING = "running"
    EXITED = "exited"  # it ran and ended; something of it (a stopped container) is still there
    LOST = "lost"  # its host does not answer any more: it may run or not, and nobody can say
    GONE = "gone"  # nothing of it is left, or it never was


@dataclass(frozen=True, kw_only=True)
class ResourceView:
    """A worker's infrastructure at this moment.

    ``failure`` is set when the provider knows why it will not start, why it ended (out of memory, image, exit code,
    eviction), or why it is being ended, and not by us. ``waiting``: why it does not run yet, though it still may (no node
    has room).
    """

    worker_id: UUID
    state: ResourceState
    resource_id: str | None = None
    exit_code: int | None = None
    failure: Failure | None = None
    waiting: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the provider can take work, in a sentence for a person. ``checks`` are its parts, name → sentence."""

    ok: bool
    message: str
    checks: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What jobs may ask of the provider. ``host_gateway``: where its workers find their machine, if that is known."""

    images: bool
    cpu_limits: bool
    memory_limits: bool
    gpus: bool = False
    limits_reason: str | None = None
    host_gateway: str | None = None


class Provider(Protocol):
    """One place where workers are made. One that is told of changes is :class:`Watching` besides.

    Every call has its own deadline and ends with an answer or a :class:`ProviderError`; none blocks for ever. Workers
    are found by name and label, so every answer is right also after a restart, and from another process.
    """

    provider_id: UUID
    provider_type: str

    def start(self, request: WorkerRequest) -> str:
        """Make the worker and start it; return its resource id (container id, pod name, pid).

        Idempotent by ``worker_id``: called again, also after a crash half-way, it finishes what is there and returns the
        same id. Raises :class:`ImageMissing` when the image must be pulled first; nothing is left of the try then.
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


@runtime_checkable
class Watching(Protocol):
    """A provider that is told of changes, and so knows without asking how its workers are."""

    def watched(self, deployment: str) -> list[ResourceView] | None:
        """The deployment's workers as they were a moment ago; None while that is not known. Costs no request.

        The watch starts with the first question and lasts as long as it is asked. A worker that is missing here, or shown
        as over, is to be inspected before anything is done about it.
        """


@runtime_checkable
class Discarding(Protocol):
    """A provider whose host may be a long time about a worker that never came up."""

    def discard(self, worker_id: UUID) -> None:
        """As :meth:`Provider.stop`, for a worker that never registered and whose one-time token is worthless: whatever
        should still come up of it can do nothing, so nobody's word is waited for."""


@runtime_checkable
class Probing(Protocol):
    """A provider that can try the way of a worker with one that is made for it."""

    def probe(self) -> Health:
        """The health, and whether a worker made here reaches worker-manager. Takes up to about a minute; leaves nothing."""
