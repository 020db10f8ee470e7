"""One transaction: named queries, events that are in order, and what happens after the commit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog
from sqlalchemy.engine import Connection

from hodei.domain.ids import new_id
from hodei.storage.queries import query

log = structlog.get_logger(__name__)

Aggregate = Literal["job", "worker", "provider"]


class Row(dict[str, Any]):
    """A row of an answer, by column name; attributes work too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Transaction:
    """What a use case sees of the database."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._after_commit: list[Callable[[], None]] = []

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        """All rows that the query gives."""
        result = self.connection.execute(query(name), _adapted(parameters))
        return [Row(mapping) for mapping in result.mappings()]

    def row(self, name: str, /, **parameters: Any) -> Row | None:
        """The first row, or None."""
        found = self.connection.execute(query(name), _adapted(parameters)).mappings().first()
        return None if found is None else Row(found)

    def scalar(self, name: str, /, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        return self.connection.execute(query(name), _adapted(parameters)).scalar()

    def execute(self, name: str, /, **parameters: Any) -> int:
        """Run a change; return how many rows it touched: 0 means that its guard did not hold."""
        return self.connection.execute(query(name), _adapted(parameters)).rowcount

    def execute_many(self, name: str, parameters: Sequence[dict[str, Any]]) -> None:
        """Run a change once for each set of parameters."""
        if parameters:
            self.connection.execute(query(name), [_adapted(item) for item in parameters])

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
        return self.scalar(
            f"event_record_{aggregate}",
            id=event_id,
            aggregate_id=aggregate_id,
            event_type=event_type,
            payload=payload,
            actor=actor,
        )

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


def _adapted(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, default=str) if isinstance(value, dict) else value
        for name, value in parameters.items()
    }
