"""Folders that a job must not see, covered in a mount namespace of the job's own.

Linux only, and only where the kernel lets this user: root needs CAP_SYS_ADMIN, other users need unprivileged
user namespaces. Whole folders, because a file that is covered shows again when another is put in its place.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import NoReturn, Sequence

from hodei_agent import linux

EMPTY = "size=64k,nr_inodes=1k,mode=0755"
UNABLE = 1


class HidingFailed(Exception):
    """The kernel does not let us. The text is a sentence for a person, without its full stop."""


def hide(paths: Sequence[str], kept: str) -> None:
    """Called in a new child before exec: from here on it and its descendants find an empty folder that cannot
    be written at each of these paths, and an empty file where a path is a file. Raises HidingFailed.

    Of what is below them only the folder `kept` stays. It cannot be undone: whoever is not root has no capabilities
    left after exec, and :func:`hodei_agent.linux.forbid_prying` takes root's. Processes outside still see it all, but
    the child cannot look through them. What the machine mounts and unmounts later still shows. Paths that do not
    exist are left out; the working folder becomes `kept`.

    Not root, the child is in a user namespace with its own user and group alone: every other owner shows as
    65534, and set-user-ID programs such as sudo run with no more rights than the job.
    """
    step = "unshare"
    try:
        if os.geteuid() == 0:
            linux.unshare(linux.CLONE_NEWNS)
        else:
            user, group = os.geteuid(), os.getegid()
            linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
            step = "uid_map"
            _map_to_themselves(user, group)
        step = "mount"
        linux.mount("none", "/", "", linux.MS_REC | linux.MS_SLAVE)
        kept = os.path.realpath(kept)
        for path in _outermost(paths):
            _cover(path, kept)
        os.chdir(kept)
    except OSError as error:
        who = "root here" if os.geteuid() == 0 else f"the user {os.geteuid()}"
        raise HidingFailed(
            f"this system does not let {who} hide files from a process ({step}: {error.strerror})"
        ) from error


def _map_to_themselves(user: int, group: int) -> None:
    """An undumpable process's files in /proc are root's, so it is dumpable for a moment. Other jobs, each in a user
    namespace of its own, cannot use that moment."""
    linux.set_dumpable(1)
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, content.encode())
        os.close(descriptor)
    linux.set_dumpable(0)


def _outermost(paths: Sequence[str]) -> list[str]:
    found: list[str] = []
    for path in sorted({os.path.realpath(path) for path in paths}, key=len):
        if not any(_is_inside(path, folder) for folder in found):
            found.append(path)
    return found


def _is_inside(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _cover(path: str, kept: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(mode):
        linux.mount("/dev/null", path, "", linux.MS_BIND)
        return
    safe = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    os.chdir(kept if _is_inside(kept, path) else "/")
    linux.mount("tmpfs", path, "tmpfs", safe, EMPTY)
    if _is_inside(kept, path):
        os.makedirs(kept, 0o755, exist_ok=True)
        linux.mount(".", kept, "", linux.MS_BIND)  # the working folder is the one below the cover
    linux.mount("none", path, "", linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | safe)


def try_out(kept: str, paths: Sequence[str]) -> NoReturn:
    """Whether :func:`hide` works for this user: ends the process with 0, or with 1 and the reason on stdout."""
    linux.set_dumpable(0)  # as the agent is
    try:
        hide(paths, kept)
    except HidingFailed as reason:
        sys.stdout.write(str(reason))
        sys.stdout.flush()
        os._exit(UNABLE)
    os._exit(0)
