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

        What was hung on :meth:`Transaction.after_commit` runs then. Raises DatabaseUnavailable when Postgres is away.
        """
        try:
            with self.engine.begin() as connection:
                transaction = Transaction(connection)
                yield transaction
        except (OperationalError, PoolTimeout) as error:
            raise _unavailable(error) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _unavailable(error) from error
            raise
        transaction.run_after_commit()

    @contextmanager
    def glance(self) -> Iterator[Transaction]:
        """Single statements, each a transaction of its own and one round trip: for reading, and for measures.

        What is written here may be lost when Postgres crashes within the next moment (heartbeats may; nothing else).
        Raises DatabaseUnavailable when Postgres is away.
        """
        try:
            with self._quick.connect() as connection:
                yield Transaction(connection)
        except (OperationalError, PoolTimeout) as error:
            raise _unavailable(error) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _unavailable(error) from error
            raise

    def ping(self) -> None:
        """Ask the server for an answer. Raises DatabaseUnavailable."""
        with self.glance() as tx:
            tx.scalar("ping")

    @property
    def deployment(self) -> str:
        """This installation's id: what its containers are labelled with."""
        if self._deployment is None:
            with self.begin() as tx:
                self._deployment = str(UUID(str(tx.scalar("deployment_id"))))
        return self._deployment

    def close(self) -> None:
        """Give all connections back."""
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


def _unavailable(error: Exception) -> DatabaseUnavailable:
    original = getattr(error, "orig", None)
    reason = str(original or error).strip().splitlines()
    first = reason[0] if reason else type(error).__name__
    if (
        getattr(original, "pgcode", None) is not None
    ):  # the server answered: a deadlock, a time-out, its shutdown
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
