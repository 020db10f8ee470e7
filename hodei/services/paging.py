"""Pages by key: a cursor names the last row that was seen, so a page is right whatever was added meanwhile."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hodei.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Page:
    """A part of a list; ``next_cursor`` None: it was the last."""

    items: list[dict[str, Any]]
    next_cursor: str | None = None


def encode(at: datetime, row_id: UUID) -> str:
    """The cursor that names this row."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{row_id}".encode()).decode().rstrip("=")


def decode(cursor: str | None) -> tuple[datetime | None, UUID | None]:
    """The row that a cursor names. Raises InvalidInput for one that was not made here."""
    if cursor is None:
        return None, None
    try:
        at, _, row_id = _text(cursor).partition("|")
        return _time(at), UUID(row_id)
    except (ValueError, OverflowError, binascii.Error):
        raise _not_ours() from None


def encode_place(priority: int, at: datetime, row_id: UUID) -> str:
    """The cursor that names a place in the queue."""
    return base64.urlsafe_b64encode(f"{priority}|{at.isoformat()}|{row_id}".encode()).decode().rstrip("=")


def decode_place(cursor: str | None) -> tuple[int | None, datetime | None, UUID | None]:
    """The place in the queue that a cursor names. Raises InvalidInput for one that was not made here."""
    if cursor is None:
        return None, None, None
    try:
        priority, at, row_id = _text(cursor).split("|")
        return int(priority[:2]), _time(at), UUID(row_id)
    except (ValueError, OverflowError, binascii.Error):
        raise _not_ours() from None


def encode_name(priority: int, name: str) -> str:
    """The cursor that names a provider's place among all."""
    return base64.urlsafe_b64encode(f"{priority}|{name}".encode()).decode().rstrip("=")


def decode_name(cursor: str | None) -> tuple[int | None, str | None]:
    """The provider's priority and name that a cursor names. Raises InvalidInput for one that was not made here."""
    if cursor is None:
        return None, None
    try:
        priority, name = _text(cursor).split("|")
        if "\0" in name or len(priority) > 5:
            raise ValueError("no provider has such a name or priority")
        return int(priority), name
    except (ValueError, binascii.Error):
        raise _not_ours() from None


def _text(cursor: str) -> str:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()


def _time(text: str) -> datetime:
    """Raises ValueError."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone is none of ours")
    return at.astimezone(UTC)


def _not_ours() -> InvalidInput:
    return InvalidInput("The cursor is not one of ours. Take it from the Link header.", field="cursor")


def page_of(rows: list[Any], limit: int, view: Any, *, at: str) -> Page:
    """A page from ``limit + 1`` rows at most; the extra one says that there is more."""
    shown = rows[:limit]
    more = encode(shown[-1][at], shown[-1]["id"]) if len(rows) > limit and shown else None
    return Page(items=[view(row) for row in shown], next_cursor=more)
