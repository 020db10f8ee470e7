"""The user that the embedded servers run as when root starts them."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = ("hodei", "_hodei")  # the second when a person is called hodei
FIRST_PERSON_UID = 1000  # login.defs: below it are system users


@dataclass(frozen=True, kw_only=True)
class Account:
    name: str
    uid: int
    gid: int

    def may_traverse(self, folder: Path) -> bool:
        return self._allowed(folder, stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH)

    def may_read(self, path: Path) -> bool:
        return self._allowed(path, stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH)

    def closed_parent(self, path: Path) -> Path | None:
        """The first folder above `path`, from the top, that this user cannot pass."""
        above = reversed(path.resolve().parents)
        return next((folder for folder in above if not self.may_traverse(folder)), None)

    def _allowed(self, path: Path, user: int, group: int, others: int) -> bool:
        found = path.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & user)
        return bool(found.st_mode & (group if found.st_gid == self.gid else others))


def server_account(home: Path) -> Account | None:
    """None when we are not root. Else the system user `hodei`, made when missing, or `nobody` at last."""
    if os.geteuid() != 0:
        return None
    for name in NAMES:
        found = _find(name) or _make(name, home)
        if found and 0 < found.uid < FIRST_PERSON_UID:
            return found
    return _find("nobody") or Account(name="nobody", uid=65534, gid=65534)


def _find(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


def _make(name: str, home: Path) -> Account | None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        return None
    options = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        str(home),
        "--shell",
        "/usr/sbin/nologin",
    ]
    subprocess.run([useradd, *options, name], capture_output=True, check=False)
    return _find(name)
