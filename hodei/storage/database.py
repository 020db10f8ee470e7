"""The connection pool, and the door to transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hodei.errors import DatabaseUnavailable
from hodei.storage.queries import query
from hodei.storage.transaction import Transaction

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 30_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000
POOL_SIZE = 8
NO_CONNECTION_LEFT = ("connection slots are reserved", "too many clients", "too many connections")
"""How Postgres says so, to whoever is no superuser, at its own limit, and at a role's or a database's."""
HOW_IT_WRITES_AGAIN = (
    "Have HODEI_DATABASE_URL lead to the primary, or make room if the server's disk is nearly full: "
    "all goes on by itself then."
)
ONLY_READS = "25006"
INTERNAL_ERRORS = "XX"
"""SQLSTATE of a write in a read-only transaction, and the class of what is broken inside of Postgres (a damaged page)."""


class Database:
    """Postgres as the platform uses it. Connects when it is first used; safe to share between threads."""

    def __init__(self, url: str, *, pool_size: int = POOL_SIZE, application_name: str = "hodei") -> None:
        self.url = url
        self._deployment: str | None = None
        self.engine = _engine(url, application_name, pool_size=pool_size)
        self._quick = _engine(
            url,
            application_name,
            pool_size=_quick_size(pool_size),
            isolation_level="AUTOCOMMIT",
            more="-c synchronous_commit=off",
        )

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        What was hung on :meth:`Transaction.after_commit` runs then. Raises DatabaseUnavailable when Postgres is away, or
        does not let us write.
        """
        with self._answering(), self.engine.begin() as connection:
            transaction = Transaction(connection)
            yield transaction
        transaction.run_after_commit()

    @contextmanager
    def glance(self) -> Iterator[Transaction]:
        """Single statements, each a transaction of its own and one round trip: for reading, and for measures.

        What is written here may be lost when Postgres crashes within the next moment (heartbeats may; nothing else).
        Raises DatabaseUnavailable as :meth:`begin` does.
        """
        with self._answering(), self._quick.connect() as connection:
            yield Transaction(connection)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """What Postgres could not do comes out as DatabaseUnavailable, a fault of our own as it is.

        Where it only reads, all connections are given back, those for reading too: it may be a former primary, which
        shows what was, and new ones may find the one that writes.
        """
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            if _sqlstate(error) == ONLY_READS:
                self.close()
            if is_outage(error):
                raise unavailable(error) from error
            raise

    def ping(self) -> None:
        """Ask the server for an answer. Raises DatabaseUnavailable."""
        with self.glance() as tx:
            tx.scalar("ping")

    def only_reads(self) -> bool:
        """Whether it refuses what is written, also through a new connection: an old one may lead elsewhere.

        Raises DatabaseUnavailable.
        """
        for _ in range(2):
            with self.glance() as tx:
                if not tx.scalar("only_reads"):
                    return False
            self.close()
        return True

    @property
    def deployment(self) -> str:
        """This installation's id: what its containers are labelled with."""
        if self._deployment is None:
            with self.begin() as tx:
                self._deployment = str(UUID(str(tx.scalar("deployment_id"))))
        return self._deployment

    def close(self) -> None:
        """Give all connections back; what is asked afterwards gets new ones."""
        self.engine.dispose()
        self._quick.dispose()


def _quick_size(pool_size: int) -> int:
    return max(4, pool_size // 2)


def _engine(
    url: str,
    application_name: str,
    *,
    pool_size: int,
    isolation_level: IsolationLevel = "READ COMMITTED",
    more: str = "",
) -> Engine:
    """A pool without overflow: a burst waits its turn, because a connection made for it alone costs more than the wait."""
    return create_engine(
        url,
        isolation_level=isolation_level,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": application_name,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC"
            f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS} {more}",
        },
    )


def _sqlstate(error: Exception) -> str | None:
    """What the server answered; None when it did not."""
    state: str | None = getattr(getattr(error, "orig", None), "pgcode", None)
    return state


def is_outage(error: Exception) -> bool:
    """Whether it was Postgres that could not, and not the statement that was wrong."""
    if isinstance(error, (OperationalError, PoolTimeout)):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    state = _sqlstate(error) or ""
    return state == ONLY_READS or state.startswith(INTERNAL_ERRORS)


def unavailable(error: Exception) -> DatabaseUnavailable:
    """An outage in a sentence that says what to do."""
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()
    first = reason[0] if reason else type(error).__name__
    state = _sqlstate(error)
    if state == ONLY_READS:
        return DatabaseUnavailable(f"The database only reads ({first}). {HOW_IT_WRITES_AGAIN}")
    if state is not None:  # the server answered: a deadlock, a time-out, its shutdown
        return DatabaseUnavailable(f"The database gave up on this ({first}). Try again.")
    if any(words in first for words in NO_CONNECTION_LEFT):
        return DatabaseUnavailable(
            f"The database has no connection left ({first}). Raise max_connections of Postgres: a process of the platform "
            f"holds up to {POOL_SIZE + _quick_size(POOL_SIZE)} connections, one that agents call up to twice as many."
        )
    return DatabaseUnavailable(
        f"The database cannot be reached ({first}). Check that Postgres runs and that HODEI_DATABASE_URL is right."
    )


__all__ = ["Database", "Transaction", "query"]
