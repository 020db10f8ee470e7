"""Starts an agent so that it outlives us, and sees how it ends while we live."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from hodei.providers.agent_package import agent_folder
from hodei.providers.contract import WorkerRequest
from hodei.providers.process.folder import Folder

ISOLATED = ("-E", "-s", "-S")
"""Neither the environment nor site-packages change how the agent runs, and Python starts fastest so."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def command_line(folder: Folder, agent: Path, python: str, hidden: Sequence[Path]) -> list[str]:
    """The agent's arguments: the last is the folder by which it is found again."""
    hide = [word for path in hidden for word in ("--hide", str(path))]
    return [python, *ISOLATED, str(agent), *hide, "--state-dir", str(folder.state)]


def environment(request: WorkerRequest, server_url: str) -> dict[str, str]:
    """The whole environment of the agent: nothing of the platform's own but PATH."""
    return {
        "HODEI_SERVER": server_url,
        "HODEI_TOKEN": request.one_time_token,
        "HODEI_WORKER_ID": str(request.worker_id),
        "PATH": os.environ.get("PATH") or _PATH,
        "LANG": "C.UTF-8",
    }


def spawn(folder: Folder, request: WorkerRequest, server_url: str, hidden: Sequence[Path]) -> int:
    """Start the agent in a session of its own with its output in files; return its pid. Raises OSError."""
    with (folder.path / "stdout").open("ab") as stdout, (folder.path / "stderr").open("ab") as stderr:
        child = subprocess.Popen(
            command_line(folder, agent_folder(), sys.executable, hidden),
            env=environment(request, server_url),
            cwd=folder.path,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    threading.Thread(target=_collect, args=(child, folder), name=f"agent-{child.pid}", daemon=True).start()
    return child.pid


def _collect(child: subprocess.Popen[bytes], folder: Folder) -> None:
    """Leave no zombie, and note the exit code where every process can read it."""
    code = child.wait()
    draft = folder.path / "exit.new"
    try:
        draft.write_text(str(code))
        draft.replace(folder.exit_file)
    except OSError:
        pass  # the worker was removed meanwhile
