"""One transaction: named queries, events that are in order, and what happens after the commit."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import psycopg2
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from hodei.domain.ids import new_id
from hodei.storage.queries import query, statement

log = structlog.get_logger("hodei.events")

COPY_BLOCK_BYTES = 1024 * 1024

Aggregate = Literal["job", "worker", "provider", "schedule", "pipeline", "pipeline_run"]


class Row(dict[str, Any]):
    """A row of an answer, by column name; attributes work too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Transaction:
    """What a use case sees of the database.

    Queries go to psycopg2 as they are: what SQLAlchemy would find out about each answer's columns costs as much as the rest.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._after_commit: list[Callable[[], None]] = []

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        """All rows that the query gives."""
        with self._answer(name, parameters) as cursor:
            columns = [column.name for column in cursor.description]
            return [Row(zip(columns, values, strict=True)) for values in cursor]

    def row(self, name: str, /, **parameters: Any) -> Row | None:
        """The first row, or None."""
        with self._answer(name, parameters) as cursor:
            found = cursor.fetchone()
            if found is None:
                return None
            return Row(zip([column.name for column in cursor.description], found, strict=True))

    def scalar(self, name: str, /, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        with self._answer(name, parameters) as cursor:
            found = cursor.fetchone()
            return None if found is None else found[0]

    def execute(self, name: str, /, **parameters: Any) -> int:
        """Run a change; return how many rows it touched: 0 means that its guard did not hold."""
        with self._answer(name, parameters) as cursor:
            return int(cursor.rowcount)

    def copy(self, name: str, parts: Sequence[bytes]) -> None:
        """Run a ``COPY … FROM STDIN`` with these bytes, in the format that the query says."""
        sql = query(name).text
        with self._cursor(sql) as cursor:
            cursor.copy_expert(sql, io.BytesIO(b"".join(parts)), COPY_BLOCK_BYTES)

    @contextmanager
    def _answer(self, name: str, parameters: dict[str, Any]) -> Iterator[Any]:
        """The cursor, once the query has been answered."""
        sql = statement(name)
        with self._cursor(sql) as cursor:
            cursor.execute(sql, _adapted(parameters))
            yield cursor

    @contextmanager
    def _cursor(self, sql: str) -> Iterator[Any]:
        """A cursor of psycopg2; what it raises comes out as SQLAlchemy's, and a lost connection is not used again."""
        raw: Any = self.connection.connection
        try:
            with raw.cursor() as cursor:
                yield cursor
        except psycopg2.Error as error:
            raise self._raised(sql, error, raw) from error

    def _raised(self, sql: str, error: psycopg2.Error, raw: Any) -> BaseException:
        dialect: Any = self.connection.dialect
        lost = dialect.is_disconnect(error, raw, None)
        if lost:
            self.connection.invalidate(error)
            self.connection.engine.dispose(close=False)  # the others that were open went the same way
        return DBAPIError.instance(
            sql,
            None,
            error,
            psycopg2.Error,
            hide_parameters=True,
            connection_invalidated=lost,
            dialect=dialect,
        )

    def record(
        self,
        aggregate: Aggregate,
        aggregate_id: UUID,
        event_type: str,
        payload: dict[str, Any],
        *,
        actor: str,
    ) -> datetime:
        """Append a domain event and its outbox row; return when it occurred.

        The time is the database's, and strictly later than that of the aggregate's event before it: it is taken under
        the lock of the aggregate's row.
        """
        event_id = new_id()
        at: datetime = self.scalar(
            f"event_record_{aggregate}",
            id=event_id,
            aggregate_id=aggregate_id,
            event_type=event_type,
            payload=payload,
            actor=actor,
        )
        self.after_commit(lambda: _say(aggregate, aggregate_id, event_type, payload, actor))
        return at

    def after_commit(self, effect: Callable[[], None]) -> None:
        """Do this once the transaction is committed; never when it is rolled back. It must be quick and not raise."""
        self._after_commit.append(effect)

    def run_after_commit(self) -> None:
        """Called by :meth:`Database.begin` alone."""
        for effect in self._after_commit:
            try:
                effect()
            except Exception:
                log.exception("after_commit.failed")


SAID = (
    "old_state",
    "new_state",
    "attempt",
    "exit_code",
    "error_code",
    "paid_by",
    "worker_id",
    "reason",
    "resource_id",
)
"""What the log says of an event. The rest is in the event itself."""


def _say(
    aggregate: Aggregate, aggregate_id: UUID, event_type: str, payload: dict[str, Any], actor: str
) -> None:
    """One line for each event, once it is true."""
    about = {f"{aggregate}_id": str(aggregate_id)}
    job_id = aggregate_id if aggregate == "job" else payload.get("job_id")
    if job_id is not None:
        about["correlation_id"] = str(job_id)
    said = {name: payload[name] for name in SAID if payload.get(name) is not None}
    log.info(event_type, actor=actor, **(said | about))


def _adapted(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, default=str) if isinstance(value, dict) else value
        for name, value in parameters.items()
    }
