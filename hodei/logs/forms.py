"""How entries are written: as JSON, as text, as Server-Sent Events.

The text of an entry is always valid: bytes that are no UTF-8 show as U+FFFD, and the entry then has them, in Base64, as
``bytes``. NUL and every other control character survive, escaped as JSON has it.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring

from hodei.logs.chunks import Entry


@lru_cache(maxsize=64)
def moment(at_us: int) -> str:
    """RFC 3339 in UTC, with microseconds."""
    seconds, micros = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def entry_json(entry: Entry, attempt: int) -> str:
    """One entry as a JSON object on one line."""
    data = entry.data
    ending = "" if entry.partial else "\n"
    more = ',"partial":true' if entry.partial else ""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        exact = base64.b64encode(data.removesuffix(b"\n")).decode()
        more += f',"bytes":"{exact}"'
    return (
        f'{{"seq":{entry.seq},"attempt":{attempt},"stream":"{entry.stream}","at":"{moment(entry.at_us)}",'
        f'"text":{encode_basestring(text.removesuffix(ending))}{more}}}'
    )


def json_array(entries: Iterable[Entry], attempt: int) -> Iterator[bytes]:
    """A JSON array, entry by entry."""
    before = "["
    for entry in entries:
        yield f"{before}{entry_json(entry, attempt)}".encode()
        before = ","
    yield b"[]" if before == "[" else b"]"


def text(pieces: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """Bytes of two streams as valid UTF-8; a character that came in two pieces of a stream is whole again."""
    decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
    for stream, data in pieces:
        block = decoders[stream].decode(data)
        if block:
            yield block.encode()
    for decoder in decoders.values():
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest.encode()


def event(entry: Entry, attempt: int) -> str:
    """An entry as a Server-Sent Event; its id is where to go on after it."""
    return f"id: {attempt}-{entry.seq}\ndata: {entry_json(entry, attempt)}\n\n"


def events(entries: Iterable[Entry], attempt: int) -> bytes:
    """Several entries, an event each, to be sent at once."""
    return "".join([event(entry, attempt) for entry in entries]).encode()


def named_event(name: str, place: str, document: str) -> bytes:
    """An event that is no entry."""
    return f"event: {name}\nid: {place}\ndata: {document}\n\n".encode()
