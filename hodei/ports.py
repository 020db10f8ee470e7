"""What a use case is given: the database, the courier, the wake-ups, the providers. Wired in ``hodei.bootstrap``."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from hodei.logs.feeds import Feeds
from hodei.logs.folder import LogFolder
from hodei.observability.meters import Meters
from hodei.observability.tracing import NoTracing, Tracing
from hodei.providers.contract import Provider
from hodei.settings import Settings
from hodei.storage.database import Database
from hodei.vault import Vault


@dataclass(frozen=True, kw_only=True)
class QueueLength:
    """One of the broker's queues: how many messages wait, and for how long the next one has."""

    name: str
    messages: int
    oldest_s: float


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What waits at the broker, and what was taken and is not finished."""

    queues: list[QueueLength]
    unacknowledged: int


class Courier(Protocol):
    """Carries messages that say "look at this". None of them is needed for anything to be right; nothing here blocks
    or raises, and a message may come twice, late or never."""

    def look(self) -> None:
        """Somebody should look at the queue of jobs."""

    def run_saga(self, saga_type: str, saga_id: UUID, steps: Iterable[str]) -> None:
        """Run this stretch of a saga, step by step."""

    def undo_saga(self, saga_type: str, saga_id: UUID, steps: Iterable[str]) -> None:
        """Undo these steps of a saga, in this order."""

    def destroy(self, worker_id: UUID) -> None:
        """This worker is TERMINATING: destroy it."""

    def pull(self, provider_id: UUID, image: str) -> None:
        """This image is missing at the provider: pull it."""

    def advance(self, run_id: UUID) -> None:
        """Something may be to be done for this run of a pipeline."""

    def relay(self) -> None:
        """There are new rows in the outbox."""

    def relay_now(self, *, older_than_s: float) -> int:
        """Hand over the outbox's rows of this age, waiting for the broker; return how many. 0 when it is away."""

    def was_emptied(self) -> bool:
        """True after the broker lost what it held, flushed or restarted empty, until :meth:`note_not_empty`."""

    def note_not_empty(self) -> None:
        """What was lost has been seen to: the next loss will be another one."""

    def backlog(self) -> Backlog | None:
        """What waits at the broker; None when it is away."""

    def ping(self) -> str | None:
        """None when the broker answers, else why it does not."""

    def close(self) -> None:
        """Send what waits, for a moment, and stop."""


class Wakeups(Protocol):
    """Hints between processes that shorten a wait; never needed, since every waiter also looks at Postgres."""

    def wait(self, key: str, timeout_s: float) -> bool:
        """Block until somebody wakes this key, the time is over, or the process stops. True when woken."""

    def listen(self, key: str) -> Listening:
        """Start to listen to a key before looking at the facts, so that no wake-up between the two is missed."""

    def tell(self, key: str, effect: Callable[[], None]) -> AbstractContextManager[object]:
        """Call this at each wake-up of the key, and when the process stops, for as long as the block lasts.

        It is called in another thread, and must be quick and not raise.
        """

    def wake(self, key: str) -> None:
        """Wake whoever waits for the key, in any process. Returns at once, never raises."""

    @property
    def closing(self) -> bool:
        """True once the process is stopping: waiters answer with what they have."""

    def close(self) -> None:
        """Wake everybody and let go."""


class Listening(Protocol):
    """One waiter's ear at a key; use it as a context manager."""

    def wait(self, timeout_s: float) -> bool: ...

    def __enter__(self) -> Listening: ...

    def __exit__(self, *details: object) -> None: ...


class Providers(Protocol):
    """The providers that are configured, opened when first asked for."""

    def get(self, provider_id: UUID) -> Provider:
        """The provider. Raises ProviderError when its configuration cannot be used."""

    def ids(self) -> list[UUID]: ...

    def refresh(self) -> None:
        """They were changed: the next answer is by their rows as they are then."""

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One process's view of the whole; safe to share between threads."""

    settings: Settings
    database: Database
    courier: Courier
    wakeups: Wakeups
    providers: Providers
    vault: Vault
    process_name: str = field(default="hodei")
    feeds: Feeds = field(default_factory=Feeds)
    log_folder: LogFolder = field(default_factory=LogFolder)
    meters: Meters = field(default_factory=Meters)
    tracing: Tracing = field(default_factory=NoTracing)

    def one_time_token(self, worker_id: UUID) -> str:
        """The worker's one-time token: 256 bits, derived, so that a step that is done again hands over the same one."""
        return self.vault.derive(f"one-time-token:{worker_id}")

    @contextmanager
    def provider_call(self, provider: Provider, call: str) -> Iterator[None]:
        """Measures what the block asks of the provider, and tells the trace that it is part of."""
        kind = provider.provider_type
        with self.meters.provider_call(kind, call):
            if self.tracing.current() is None:
                yield
                return
            with self.tracing.span(f"{kind} {call}", kind="client", attributes={"hodei.provider_type": kind}):
                yield

    def close(self) -> None:
        """Stop: wake the waiters, give back the connections. Workers go on."""
        self.wakeups.close()
        self.courier.close()
        self.tracing.close()
        self.providers.close()
        self.database.close()


def token_hash(token: str) -> bytes:
    """How tokens are stored. They are random and long, so one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode()).digest()


def same(left: bytes | memoryview | None, right: bytes) -> bool:
    """Compare two hashes in constant time."""
    return left is not None and hmac.compare_digest(bytes(left), right)
