"""How answers are written: JSON with UUIDs, RFC 3339 times in UTC with microseconds, and numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from flask import Response

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"


def to_json(value: Any) -> str:
    """Compact JSON. Raises TypeError for what has no agreed form, ValueError for NaN and infinity."""
    return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def json_response(value: Any, status: int = 200, *, headers: dict[str, str] | None = None) -> Response:
    """An answer with ``value`` as its body."""
    return Response(to_json(value), status=status, headers=headers, content_type=JSON_TYPE)


def problem_response(problem: dict[str, Any], *, headers: dict[str, str] | None = None) -> Response:
    """An RFC 9457 answer; its status is the problem's own."""
    return Response(to_json(problem), status=problem["status"], headers=headers, content_type=PROBLEM_TYPE)


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
