"""The Idempotency-Key of a request, as the use cases take it."""

from __future__ import annotations

from pydantic import BaseModel

from hodei.api.schemas.common import OnceHeader
from hodei.services.idempotency import RequestKey


def key_of(scope: str, header: OnceHeader, body: BaseModel) -> RequestKey | None:
    """The caller's key for this body; ``scope`` is method and path. None: none was given."""
    if header.key is None:
        return None
    return RequestKey.of(scope, header.key, body.model_dump_json().encode())
