"""The folders and the environment that a job gets: its own, and nothing of the agent's."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from hodei_agent import outputs
from hodei_agent.definition import Definition

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OWNER_ONLY = 0o700


class Folders(NamedTuple):
    """The private folders of one execution; `root` holds the others and the script."""

    root: str
    home: str
    tmp: str

    @property
    def output(self) -> str:
        """The file into which the job writes what it hands on."""
        return f"{self.root}/output"


def make_state_dir(wanted: str | None) -> str:
    """A fresh folder of the agent's own, in `wanted` (made if it is not there) if given. Raises OSError."""
    bases = ["/tmp", "/var/tmp", os.getcwd()]
    if wanted is not None:
        os.makedirs(wanted, _OWNER_ONLY, exist_ok=True)
        bases = [wanted]
    trouble: OSError | None = None
    for base in (None if wanted else os.environ.get("TMPDIR"), *bases):
        if not base:
            continue
        folder = f"{base}/hodei-{os.urandom(6).hex()}"
        try:
            os.mkdir(folder, _OWNER_ONLY)
        except OSError as error:
            trouble = error
        else:
            return folder
    raise trouble or OSError("there is no folder to write to")


def make_folders(state_dir: str, number: int) -> Folders:
    """Make the folders of this worker's execution `number`. Raises OSError.

    The names are short, because a socket's path in TMPDIR may have no more than 107 characters.
    """
    root = f"{state_dir}/{number}"
    folders = Folders(root, f"{root}/home", f"{root}/tmp")
    for folder in folders:
        os.mkdir(folder, _OWNER_ONLY)
    outputs.create(folders.output)
    return folders


def build(definition: Definition, folders: Folders, path: str) -> dict[bytes, bytes]:
    """The job's whole environment, as bytes. The job's own variables win over ours, its secrets over both."""
    environment = {
        "PATH": path or DEFAULT_PATH,
        "HOME": folders.home,
        "LANG": "C.UTF-8",
        "TMPDIR": folders.tmp,
    }
    environment.update(definition.env)
    environment.update(definition.secrets)
    environment["HODEI_JOB_ID"] = definition.job_id
    environment["HODEI_EXECUTION_ID"] = definition.execution_id
    environment["HODEI_ATTEMPT"] = str(definition.attempt)
    environment["HODEI_OUTPUT"] = folders.output
    return {encode(name): encode(value) for name, value in environment.items()}


def encode(text: str) -> bytes:
    """The text as a program gets it: UTF-8, whatever the agent's own locale is."""
    return text.encode("utf-8", "surrogateescape")


def remove(folder: str) -> None:
    """Remove the folder and all in it, also what the job made unwritable. What cannot be removed stays."""
    try:
        entries = list(os.scandir(folder))
    except PermissionError:
        try:
            os.chmod(folder, stat.S_IRWXU)
            entries = list(os.scandir(folder))
        except OSError:
            return
    except OSError:
        return
    for again in (False, True):
        left = []
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    remove(entry.path)
                else:
                    os.unlink(entry.path)
            except OSError:
                left.append(entry)
        if not left or again:
            break
        entries = left
        try:
            os.chmod(folder, stat.S_IRWXU)
        except OSError:
            break
    try:
        os.rmdir(folder)
    except OSError:
        pass
