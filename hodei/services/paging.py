"""Pages by key: a cursor names the last row that was seen, so a page is right whatever was added meanwhile."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
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
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        at, _, row_id = text.partition("|")
        return datetime.fromisoformat(at), UUID(row_id)
    except (ValueError, binascii.Error):
        raise InvalidInput(
            "The cursor is not one of ours. Take it from the Link header.", field="cursor"
        ) from None


def page_of(rows: list[Any], limit: int, view: Any, *, at: str) -> Page:
    """A page from ``limit + 1`` rows at most; the extra one says that there is more."""
    shown = rows[:limit]
    more = encode(shown[-1][at], shown[-1]["id"]) if len(rows) > limit and shown else None
    return Page(items=[view(row) for row in shown], next_cursor=more)
