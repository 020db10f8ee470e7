"""Log frames: the binary envelope in which a job's output travels and is stored.

The layout is described in `docs/reference/agent-protocol.md`. Both sides use this module: the agent packs,
the platform checks and splits. Nothing here works per line except :func:`entries_in`, which only readers
call.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hodei_agent.protocol import STREAM_NAMES

MAGIC = b"HJF1"
CODEC_PLAIN = 0
CODEC_ZLIB = 1
COMPRESS_FROM_BYTES = 512
"""Smaller payloads are sent as they are: zlib's own header would eat the gain."""
PAYS_BELOW = 0.7
"""Packing pays when it leaves less than this part: what it hardly shrinks, it also shrinks slowly."""
SAMPLE_BYTES = 16 * 1024
"""From eight times this on, a piece from the middle is packed first, to see whether it pays."""

SEGMENT_SPLIT_LINE = 1
LAST_AT_US = 253_402_300_799_999_999
"""The end of the year 9999: no date is later."""

_HEADER = struct.Struct(">4sBBHQQIIII")
_SEGMENT = struct.Struct(">BBqI")
HEADER_BYTES = _HEADER.size
SEGMENT_HEADER_BYTES = _SEGMENT.size


class FrameError(ValueError):
    """The bytes are not a whole, undamaged frame."""


class DamagedFrame(FrameError):
    """A frame's checksum is wrong: sent again, it may arrive whole."""


class Segment(NamedTuple):
    """The output that one read of a pipe gave."""

    stream: int
    at_us: int
    data: bytes
    flags: int = 0


class Frame(NamedTuple):
    """A frame as it is stored: the payload still packed."""

    seq: int
    first_entry: int
    entries: int
    segments: int
    plain_size: int
    codec: int
    crc32: int
    payload: bytes

    @property
    def output_size(self) -> int:
        """How many bytes of output it holds."""
        return self.plain_size - self.segments * SEGMENT_HEADER_BYTES


def count_entries(data: bytes) -> int:
    """How many log entries the bytes of one segment hold."""
    if not data:
        return 0
    return data.count(b"\n") + (not data.endswith(b"\n"))


def pack(seq: int, first_entry: int, segments: Iterable[Segment]) -> tuple[bytes, int]:
    """Build a frame; return it and the number of entries in it."""
    parts: list[bytes] = []
    entries = 0
    for segment in segments:
        parts += segment_header(segment), segment.data
        entries += count_entries(segment.data)
    return pack_payload(seq, first_entry, entries, b"".join(parts)), entries


def segment_header(segment: Segment) -> bytes:
    """What stands before the segment's bytes in a payload."""
    return _SEGMENT.pack(segment.stream, segment.flags, segment.at_us, len(segment.data))


def pack_payload(seq: int, first_entry: int, entries: int, plain: bytes) -> bytes:
    """Build a frame around a payload, which holds that many entries."""
    codec, payload = CODEC_PLAIN, plain
    if _may_pay(plain):
        packed = zlib.compress(plain, 1)
        if len(packed) < len(plain) * PAYS_BELOW:
            codec, payload = CODEC_ZLIB, packed
    header = _HEADER.pack(
        MAGIC,
        codec,
        0,
        count_segments(plain),
        seq,
        first_entry,
        entries,
        len(plain),
        len(payload),
        zlib.crc32(plain),
    )
    return header + payload


def _may_pay(plain: bytes) -> bool:
    if len(plain) < SAMPLE_BYTES * 8:
        return len(plain) >= COMPRESS_FROM_BYTES
    at = len(plain) // 2
    return len(zlib.compress(plain[at : at + SAMPLE_BYTES], 1)) < SAMPLE_BYTES * PAYS_BELOW


def count_segments(plain: bytes) -> int:
    """How many segments a payload is made of."""
    count = at = 0
    while at < len(plain):
        at += _SEGMENT.size + _SEGMENT.unpack_from(plain, at)[3]
        count += 1
    return count


def split(body: bytes) -> list[Frame]:
    """Cut a request body into its frames without unpacking them. Raises FrameError when it is not whole."""
    frames: list[Frame] = []
    at = 0
    while at < len(body):
        if len(body) - at < HEADER_BYTES:
            raise FrameError("the body ends inside a frame's header")
        magic, codec, _, segments, seq, first, entries, plain_size, size, crc = _HEADER.unpack_from(body, at)
        if magic != MAGIC or codec not in (CODEC_PLAIN, CODEC_ZLIB):
            raise FrameError("the body does not hold frames of this version")
        at += HEADER_BYTES
        if len(body) - at < size:
            raise FrameError("the body ends inside a frame")
        frames.append(Frame(seq, first, entries, segments, plain_size, codec, crc, body[at : at + size]))
        at += size
    return frames


def plain_payload(codec: int, payload: bytes, plain_size: int, crc32: int) -> bytes:
    """The payload unpacked and checked. Raises FrameError when it is damaged or larger than it says."""
    plain = payload
    if codec == CODEC_ZLIB:
        unpacker = zlib.decompressobj()
        try:
            plain = unpacker.decompress(payload, plain_size + 1)
        except zlib.error as error:
            raise FrameError(f"a frame cannot be unpacked: {error}") from error
    if len(plain) != plain_size or zlib.crc32(plain) != crc32:
        raise FrameError("a frame's checksum or size is wrong")
    return plain


def check(frame: Frame) -> None:
    """Raise DamagedFrame when its bytes changed on the way, FrameError when it does not hold what its header says."""
    try:
        plain = plain_payload(frame.codec, frame.payload, frame.plain_size, frame.crc32)
    except FrameError as error:
        raise DamagedFrame(f"frame {frame.seq}: {error}") from error
    segments = entries = 0
    for segment in segments_in(plain):
        if segment.stream not in STREAM_NAMES:
            raise FrameError(f"frame {frame.seq} has output of a stream {segment.stream}, which there is not")
        if not 0 <= segment.at_us <= LAST_AT_US:
            raise FrameError(f"frame {frame.seq} has output of {segment.at_us} µs, which is no time")
        segments += 1
        entries += count_entries(segment.data)
    if (segments, entries) != (frame.segments, frame.entries):
        raise FrameError(
            f"frame {frame.seq} holds {segments} segments and {entries} entries, not what its header says"
        )


def first_written_us(frame: Frame) -> int | None:
    """When the oldest output in the frame was written, by the worker's clock; None for damaged bytes. Unpacks next to nothing."""
    head = frame.payload[: _SEGMENT.size]
    if frame.codec == CODEC_ZLIB:
        try:
            head = zlib.decompressobj().decompress(frame.payload, _SEGMENT.size)
        except zlib.error:
            return None
    return _SEGMENT.unpack(head)[2] if len(head) == _SEGMENT.size else None


def first_at_us(plain: bytes) -> int:
    """The time of the first segment of an unpacked payload."""
    at_us: int = _SEGMENT.unpack_from(plain)[2]
    return at_us


def segments_in(plain: bytes) -> Iterator[Segment]:
    """The segments of an unpacked payload, in order."""
    at = 0
    while at < len(plain):
        if len(plain) - at < _SEGMENT.size:
            raise FrameError("a frame ends inside a segment's header")
        stream, flags, at_us, size = _SEGMENT.unpack_from(plain, at)
        at += _SEGMENT.size
        if len(plain) - at < size:
            raise FrameError("a frame ends inside a segment")
        yield Segment(stream, at_us, plain[at : at + size], flags)
        at += size


def entries_in(segment: Segment) -> list[bytes]:
    """The segment's entries, each with its newline if it has one."""
    pieces = segment.data.split(b"\n")
    last = pieces.pop()
    lines = [piece + b"\n" for piece in pieces]
    if last:
        lines.append(last)
    return lines
