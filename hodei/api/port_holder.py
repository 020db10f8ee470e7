"""Which process holds a port, from ``/proc``: so that "port taken" can say by what."""

from __future__ import annotations

from pathlib import Path

_LISTEN = "0A"


def process_listening_on(port: int) -> str | None:
    """``name (pid N)`` of the listener, or None where it cannot be seen (another user's, or not Linux)."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in wanted for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text(errors='replace').strip()} (pid {process.name})"
        except OSError:
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == _LISTEN and int(columns[1].rsplit(":", 1)[1], 16) == port:
                found.add(columns[9])
    return found
