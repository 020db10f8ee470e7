"""The place between a pipe's reader and the line cutter where output may be changed before it is kept."""

from __future__ import annotations


class Unmasked:
    """Lets everything through. A filter of one stream sees its blocks in order.

    `feed` may hold bytes back (a secret cut in two by a read); `flush` gives out what it held at the
    stream's end.
    """

    def feed(self, data: bytes) -> bytes:
        """The bytes that may go on."""
        return data

    def flush(self) -> bytes:
        """What was still held back."""
        return b""
