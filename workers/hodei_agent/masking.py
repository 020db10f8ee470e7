"""Masking: the values of a job's secrets become `***` before any of its output leaves the agent."""

from __future__ import annotations

from typing import Any

from hodei_agent.job_environment import encode
from hodei_agent.needles import Needles

MASK = b"***"
HOLD_SECRET_S = 0.05
"""What may be the beginning of a secret waits this long for its rest."""
MIN_VALUE_CHARACTERS = 4
MIN_LINE_CHARACTERS = 8
"""A line of a secret with several is masked alone from here on: below it are the braces and single words of keys and
configuration files, which any output holds; nobody chose them to be secret one by one."""
MIN_BASE64_CHARACTERS = 8
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def forms(secrets: Any) -> set[bytes]:
    """What is to be masked: each value, its long lines, and the value in base64, in a URL and in JSON.

    Of base64 the characters that depend on the value alone, for each of its three places in a longer text; up to four
    bits at the value's either end are not covered.
    """
    found: set[bytes] = set()
    values = secrets.values() if isinstance(secrets, dict) else ()
    for value in values:
        if not isinstance(value, str) or len(value) < MIN_VALUE_CHARACTERS:
            continue
        text = value.strip()
        if len(text) < MIN_VALUE_CHARACTERS:
            text = value
        try:
            data = encode(text)
        except UnicodeEncodeError:  # No program can be given it: the job will not be started.
            continue
        lines = (line.strip() for line in text.splitlines())
        found |= {data, _url_form(data), *_json_forms(text), *_base64_forms(data)}
        found.update(encode(line) for line in lines if len(line) >= MIN_LINE_CHARACTERS)
    return found


class Mask:
    """The secrets of one job. Without any it changes nothing and costs nothing."""

    def __init__(self, secrets: Any = None) -> None:
        needles = forms(secrets)
        self._needles = Needles(needles) if needles else None

    def stream(self) -> StreamMask | None:
        """A filter for one stream, or None when there is nothing to mask."""
        return None if self._needles is None else StreamMask(self._needles)

    def text(self, text: str | None) -> str | None:
        """The text, masked."""
        if text is None or self._needles is None:
            return text
        mask = StreamMask(self._needles)
        masked = mask.feed(text.encode("utf-8", "surrogatepass"), 0.0) + mask.finish()
        return masked.decode("utf-8", "surrogatepass")


class StreamMask:
    """Masks one stream, fed in blocks that are cut anywhere. Times are seconds on the caller's clock.

    What may be the beginning of a secret is held back: never more than the longest form less a byte, and 50 ms. When the
    rest comes later than that, the beginning has been shown and the rest is masked. Secrets that overlap become one
    `***`; of two that begin at the same place the longer one counts.
    """

    def __init__(self, needles: Needles) -> None:
        self._needles = needles
        self._tail = b""
        self._done = 0
        """How many bytes of the tail have been given out already, as they were or as a part of a `***`."""
        self._in_mask = False
        """Whether the last of those is in a `***`."""
        self._since = 0.0

    def feed(self, block: bytes, now: float) -> bytes:
        """Add a block; return what may go on."""
        old = len(self._tail)
        data = self._tail + block
        keep_from = self._needles.unfinished(data)
        out = self._give_out(data, keep_from)
        if keep_from + self._done >= old:
            self._since = now
        return out

    def due_at(self) -> float | None:
        """When :meth:`release` has something to give, or None."""
        return self._since + HOLD_SECRET_S if self._done < len(self._tail) else None

    def release(self, now: float) -> tuple[bytes, float]:
        """What has been held for long enough, and since when; it stays known as a secret's possible beginning."""
        due = self.due_at()
        if due is None or now < due:
            return b"", now
        tail = self._tail
        out = self._give_out(tail, len(tail))
        self._tail, self._done = tail, len(tail)
        return out, self._since

    def finish(self) -> bytes:
        """All that is still held, at the stream's end."""
        return self._give_out(self._tail, len(self._tail))

    def _give_out(self, data: bytes, end: int) -> bytes:
        """The part of `data` before `end` that was not given out yet, masked; the rest becomes the tail."""
        parts: list[bytes] = []
        at = self._done
        for start, stop in self._needles.spans(data):
            if start >= end:
                break
            if stop <= at:
                continue
            if start >= at:
                parts += data[at:start], MASK
            elif not self._in_mask:
                parts.append(MASK)
            at = stop
            self._in_mask = True
        if at < end:
            parts.append(data[at:end])
            at = end
            self._in_mask = False
        self._tail = data[end:]
        self._done = at - end
        return b"".join(parts)


def _base64_forms(value: bytes) -> set[bytes]:
    from binascii import b2a_base64

    found = set()
    for before, first in ((0, 0), (1, 2), (2, 3)):
        whole = b2a_base64(bytes(before) + value, newline=False)
        form = whole[first : (before + len(value)) * 8 // 6]
        if len(form) >= MIN_BASE64_CHARACTERS:
            found |= {form, form.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def _json_forms(text: str) -> set[bytes]:
    """In ASCII alone, as Python writes it, and with other characters as they are, as most others do."""
    import json

    return {encode(json.dumps(text, ensure_ascii=ascii_alone)[1:-1]) for ascii_alone in (True, False)}


def _url_form(value: bytes) -> bytes:
    return b"".join(b"%c" % byte if byte in _UNRESERVED else b"%%%02X" % byte for byte in value)
