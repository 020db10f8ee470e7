"""Output of several processes in one terminal, each line under its process's name."""

from __future__ import annotations

import os
from typing import TextIO

COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")
LONGEST_LINE_BYTES = 64 * 1024  # a line without an end is cut here, so it cannot fill memory


class PrefixedOutput:
    """Writes `name | line`, in colour on a terminal unless NO_COLOR is set; notices a closed terminal."""

    def __init__(self, target: TextIO, names: list[str]) -> None:
        self._target = target
        self._width = max(map(len, names), default=0)
        coloured = target.isatty() and not os.environ.get("NO_COLOR")
        self._colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)} if coloured else {}
        self.closed = False

    def line(self, name: str, text: str) -> None:
        prefix = f"{name:<{self._width}} |"
        if name in self._colours:
            prefix = f"\033[{self._colours[name]}m{prefix}\033[0m"
        if self.closed:
            return
        try:
            self._target.write(f"{prefix} {text}\n")
            self._target.flush()
        except (OSError, ValueError):
            self.closed = True


class LineBuffer:
    """Makes lines of the pieces that a pipe gives."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[str]:
        """The lines that are whole now; `b""` (the end) gives what is left without an end of line."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if self._rest and (not piece or len(self._rest) > LONGEST_LINE_BYTES):
            lines.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace").rstrip("\r") for line in lines]
