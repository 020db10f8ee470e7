"""Logs as answers: a page of entries, or the text itself, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import UUID

from flask import Response, request

from hodei.api.current import platform
from hodei.api.routing import described
from hodei.api.schemas.job_out import ExecutionLogQuery, LogEntries, LogQuery
from hodei.api.serialise import json_response
from hodei.services import logs

TEXT = "text/plain"
_TEXT_TYPE = "text/plain; charset=utf-8"
_HEADERS = {
    "Hodei-Log-End": {
        "description": "`true`: nothing more will come.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Hodei-Log-Attempt": {
        "description": "The attempt that this is the log of.",
        "schema": {"type": "integer"},
    },
}
ENTRIES = described(LogEntries, headers=_HEADERS, text=True)


def log_response(
    query: LogQuery | ExecutionLogQuery,
    *,
    job_id: UUID | None = None,
    execution_id: UUID | None = None,
    attempt: int | None = None,
) -> Response:
    """The log of a job's attempt or of an execution, in the form that the caller accepts."""
    which: dict[str, Any] = {"job_id": job_id, "execution_id": execution_id, "attempt": attempt}
    if request.accept_mimetypes.best_match(["application/json", TEXT]) == TEXT:
        return Response(
            _begun(logs.read_text(platform(), **which, stream=query.stream)), content_type=_TEXT_TYPE
        )
    page = logs.read_entries(platform(), **which, after=query.after, limit=query.limit, wait_s=query.wait_s)
    headers = {"Hodei-Log-End": "true"} if page.ended else {}
    if page.attempt:
        headers["Hodei-Log-Attempt"] = str(page.attempt)
    entries = page.entries
    if query.stream is not None:
        entries = [entry for entry in entries if entry["stream"] == query.stream]
    return json_response(entries, headers=headers)


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, with the first one read: what is wrong shows before the answer has begun."""
    first = next(pieces, None)
    return iter(()) if first is None else chain((first,), pieces)
