"""The agent, packed to be put into containers whose image has none."""

from __future__ import annotations

import io
import tarfile
from functools import cache
from pathlib import Path

from hodei.providers.agent_package import agent_folder
from hodei.providers.docker.container import AGENT_HOME, AGENT_PACKAGE

_EPOCH_S = 946_684_800
"""The time of every file: the same agent gives the same bytes."""


def pack(folder: Path) -> bytes:
    """A tar to be unpacked at `/`: the package at its place in a worker, readable by everyone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in (AGENT_HOME, AGENT_PACKAGE):
            archive.addfile(_entry(name, tarfile.DIRTYPE))
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".py", ".sh"}:
                data = path.read_bytes()
                archive.addfile(
                    _entry(f"{AGENT_PACKAGE}/{path.relative_to(folder)}", size=len(data)), io.BytesIO(data)
                )
    return buffer.getvalue()


def _entry(path: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.type = kind
    entry.size = size
    entry.mtime = _EPOCH_S
    entry.mode = 0o755 if kind == tarfile.DIRTYPE or path.endswith(".sh") else 0o644
    return entry


@cache
def agent_archive() -> bytes:
    """The installed agent, packed once per process."""
    return pack(agent_folder())
