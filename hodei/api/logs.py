"""Logs as answers: entries as JSON, text, exact bytes, or a stream of events. All of them are streamed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from flask import Response, request

from hodei.api.current import platform
from hodei.api.routing import described
from hodei.api.schemas.logs import USUAL_LIMIT, ExecutionLogQuery, LogEntries
from hodei.api.serialise import JSON_TYPE
from hodei.logs import forms
from hodei.logs.chunks import Entry
from hodei.logs.selection import EVERYTHING
from hodei.services import following, logs

TEXT, BYTES, EVENTS = "text/plain", "application/octet-stream", "text/event-stream"
_CONTENT_TYPES = {JSON_TYPE: JSON_TYPE, TEXT: "text/plain; charset=utf-8", BYTES: BYTES}
_BLOCK_BYTES = 64 * 1024
_LOOK_AHEAD_BYTES = 1024 * 1024
_GZIP = 31
"""zlib's way to say: with a gzip header."""

_HEADERS = {
    "Hodei-Log-End": {
        "description": "`true`: nothing more will come after this part.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Hodei-Log-Complete": {
        "description": "Whether all that was written is stored; once the attempt is over.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    "Hodei-Log-Attempt": {
        "description": "The attempt that this is the log of.",
        "schema": {"type": "integer"},
    },
}
ENTRIES = described(LogEntries, headers=_HEADERS, text=True)
ENTRIES["content"] |= {
    BYTES: {"schema": {"type": "string", "format": "binary"}},
    EVENTS: {"schema": {"type": "string"}},
}


def log_response(
    query: ExecutionLogQuery, which: logs.Which, place: tuple[int, int] | None = None
) -> Response:
    """The log of a job's attempt or of an execution, in the form that the caller asks for."""
    part = query.part()
    form = _form(query)
    if form == EVENTS:
        return _event_stream(which, part, place)
    if form == JSON_TYPE and part.limit == logs.NO_LIMIT and part.tail is None:
        part = replace(part, limit=USUAL_LIMIT)
    view = logs.find(platform(), which, part, wait_s=query.wait_s)
    headers = _about(view)
    if form == JSON_TYPE:
        body, ends = _entries(view, part)
        ends = ends or (part.tail is not None and query.limit is None)
    else:
        body, ends = _written(view, part, form), part.limit == logs.NO_LIMIT
    if view.ended and ends:
        headers["Hodei-Log-End"] = "true"
    if query.download:
        headers["Content-Disposition"] = f'attachment; filename="{file_name(view, form)}"'
    return _streamed(body, form, headers)


def _form(query: ExecutionLogQuery) -> str:
    accepted = request.accept_mimetypes
    best = accepted.best_match([JSON_TYPE, TEXT, BYTES, EVENTS], default=JSON_TYPE)
    if query.follow or best == EVENTS:
        return EVENTS
    if query.raw:
        return BYTES
    if query.download and best == JSON_TYPE and JSON_TYPE not in accepted.values():
        return TEXT
    return best


def _event_stream(which: logs.Which, part: logs.Part, place: tuple[int, int] | None) -> Response:
    here = platform()
    start = following.begin(here, which, part, place)
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return Response(following.follow(here, start), content_type=f"{EVENTS}; charset=utf-8", headers=headers)


def _about(view: logs.View) -> dict[str, str]:
    headers = {}
    if view.attempt:
        headers["Hodei-Log-Attempt"] = str(view.attempt)
    if view.ended:
        headers["Hodei-Log-Complete"] = "true" if view.complete else "false"
    return headers


def _entries(view: logs.View, part: logs.Part) -> tuple[Iterable[bytes], bool]:
    """The array, and whether nothing is stored after it. What cannot be known before it is sent is not claimed."""
    here = platform()
    if part.selection == EVERYTHING and part.tail is None:
        all_of_it = forms.json_array(logs.entries(here, view, part), view.attempt)
        return all_of_it, view.count - part.after <= part.limit
    found, ahead, size = logs.entries(here, view, part), list[Entry](), 0
    for entry in found:
        ahead.append(entry)
        size += len(entry.data)
        if size > _LOOK_AHEAD_BYTES:
            return forms.json_array(chain(ahead, found), view.attempt), False
    return forms.json_array(ahead, view.attempt), len(ahead) < part.limit


def _written(view: logs.View, part: logs.Part, form: str) -> Iterator[bytes]:
    pieces = logs.pieces(platform(), view, part)
    return forms.text(pieces) if form == TEXT else (data for _, data in pieces)


def file_name(view: logs.View, form: str) -> str:
    """What the file is called: after the job and its attempt, with letters that every system takes."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", view.job_name).strip("._")[:80] or "job"
    ending = "json" if form == JSON_TYPE else "log"
    return f"{name}-{str(view.job_id)[:8]}-attempt-{view.attempt}.{ending}"


def _streamed(body: Iterable[bytes], form: str, headers: dict[str, str]) -> Response:
    """The first block is read before the answer begins, so that what is wrong shows as an error."""
    blocks = _blocks(body)
    headers["Vary"] = "Accept, Accept-Encoding"
    if request.accept_encodings.quality("gzip") > 0 and "gzip" in request.accept_encodings.values():
        headers["Content-Encoding"] = "gzip"
        blocks = _packed(blocks)
    first = next(blocks, b"")
    return Response(chain((first,), blocks), content_type=_CONTENT_TYPES[form], headers=headers)


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    kept: list[bytes] = []
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size >= _BLOCK_BYTES:
            yield b"".join(kept)
            kept, size = [], 0
    if kept:
        yield b"".join(kept)


def _packed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    for block in blocks:
        packed = packer.compress(block)
        if packed:
            yield packed
    yield packer.flush()
