"""Idempotency keys: a request that is sent again gets the first answer, and nothing is done twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hodei.errors import Conflict
from hodei.ports import same
from hodei.storage.transaction import Transaction


@dataclass(frozen=True, kw_only=True)
class RequestKey:
    """A caller's key for one request. ``scope`` is method and path; kept for 24 hours."""

    scope: str
    key: str
    body_hash: bytes

    @classmethod
    def of(cls, scope: str, key: str, body: bytes) -> RequestKey:
        return cls(scope=scope, key=key, body_hash=hashlib.sha256(body).digest())


def once(tx: Transaction, key: RequestKey | None, act: Callable[[], Any]) -> Any:
    """Do it, in this transaction, unless it was done under this key: then the first answer, as JSON has it.

    Raises Conflict when the key was used with another body.
    """
    if key is None:
        return act()
    if tx.row("key_claim", scope=key.scope, key=key.key, body_hash=key.body_hash) is None:
        found = tx.row("key_find", scope=key.scope, key=key.key)
        if found is None or not same(found.body_hash, key.body_hash):
            raise Conflict(
                "This Idempotency-Key was used with another body. Use a new key for a new request.",
                field="Idempotency-Key",
            )
        return found.answer["value"]
    answer = act()
    answer_anew(tx, key, answer)
    return answer


def answer_anew(tx: Transaction, key: RequestKey | None, answer: Any) -> None:
    """Replace what is kept under the key: the first answer was only being made when :func:`once` kept it."""
    if key is not None:
        document = json.dumps({"value": answer}, default=_plain)
        tx.execute("key_answer", scope=key.scope, key=key.key, answer=document)


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return str(value)
