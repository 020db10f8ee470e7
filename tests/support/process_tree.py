"""What a program left behind, as ``ps`` would tell."""

from __future__ import annotations

import os
from pathlib import Path


def with_text(text: str) -> list[str]:
    """``pid: command line`` of every process, but this one, that names ``text`` in its arguments or environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            arguments, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in arguments + environment:
            found.append(f"{folder.name}: {arguments.replace(bytes(1), b' ').decode(errors='replace')}")
    return found
