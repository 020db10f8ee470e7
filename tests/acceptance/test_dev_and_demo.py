"""``hodei dev`` and ``hodei demo``: the whole platform in one terminal, found from everywhere, and nothing left of it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from support.process_tree import with_text
from support.waiting import until

from hodei.embedded import connection
from hodei.embedded.ports import free_port, is_free

HODEI = [sys.executable, "-m", "hodei.cli.main"]
FIRST_LINE_WITHIN_S = 10.0
STOPPED_WITHIN_S = 5.0
PORTS = ("ORCHESTRATOR", "SCHEDULER", "WORKER_MANAGER", "FLOWER")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a name of its own, where the embedded servers' user can come; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hodei-acceptance-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def busy() -> float:
    """How much slower this machine was lately because others want it, too; 1 on a free one, whose times the above are."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def environment(place: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
    return kept | {"XDG_STATE_HOME": str(place / "state"), "HOME": str(place)} | more


class Terminal:
    """A program in a terminal of its own, and what it has shown there."""

    def __init__(self, arguments: list[str], env: dict[str, str], folder: Path) -> None:
        self.began = time.monotonic()
        self.shown = ""
        self.lines: list[tuple[float, str]] = []
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            arguments, env=env, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._terminal = ours
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while piece := os.read(self._terminal, 65536):
                *whole, rest = (rest + piece).split(b"\n")
                now = time.monotonic() - self.began
                self.lines += [(now, line.decode(errors="replace").rstrip("\r")) for line in whole]
                self.shown = "\n".join(line for _, line in self.lines)

    def close(self) -> None:
        """End it in any case."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        os.close(self._terminal)


@pytest.fixture
def dev(place: Path) -> Iterator[tuple[Terminal, dict[str, str]]]:
    """``hodei dev`` in a folder of its own, and the environment of a person's other terminals."""
    ports = {f"HODEI_{name}_PORT": str(free_port()) for name in PORTS}
    work = place / "project"
    work.mkdir()
    servers = {"HODEI_DATA_DIR": str(place / ".hodei"), "HODEI_LOG_DIR": str(place / "logs")}
    off = {"HODEI_DOCKER_ENABLED": "0", "HODEI_KUBERNETES_ENABLED": "0"}
    terminal = Terminal([*HODEI, "dev"], environment(place, **ports, **servers, **off), work)
    try:
        until(lambda: "Ctrl-C stops everything." in terminal.shown, within_s=60, what="hodei dev")
        assert ("You are root, and so are jobs" in terminal.shown) is (os.geteuid() == 0)
        yield terminal, ports
    finally:
        terminal.close()


def test_dev_is_found_from_another_folder_with_no_flags_and_ctrl_c_leaves_nothing(
    dev: tuple[Terminal, dict[str, str]], place: Path
) -> None:
    # given
    terminal, ports = dev
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()

    def hodei(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = environment(place)
        return subprocess.run(
            [*HODEI, *arguments], env=env, cwd=elsewhere, capture_output=True, text=True, timeout=120
        )

    # when
    done = hodei("job", "run", "--name", "hello", "--command", "echo hello from $0; ps", "--wait")

    # then
    assert done.returncode == 0, done.stderr
    assert hodei("job", "logs", done.stdout.strip()).stdout.startswith("hello from ")
    assert hodei("status").returncode == 0
    for name in ("serve", "controller", "beat", "flower"):
        assert re.search(rf"^\S*\s*{name}\b", terminal.shown, re.MULTILINE), f"{name} has its prefix"
    _check_private(place)

    # when
    began = time.monotonic()
    os.write(terminal._terminal, b"\x03")  # what Ctrl-C sends
    os.killpg(terminal.process.pid, signal.SIGINT)
    terminal.process.wait(30)

    # then
    assert time.monotonic() - began < STOPPED_WITHIN_S * busy()
    assert terminal.process.returncode == 0
    until(lambda: not with_text(str(place)), what="the end of all its processes")
    assert all(is_free(int(port)) for port in ports.values())
    if is_free(8080):  # where the command line looks when it was told nothing, and somebody else may be
        assert hodei("job", "list").returncode == 4, "it is not found any more"
    assert "Traceback" not in terminal.shown, terminal.shown[-6000:]


def _check_private(place: Path) -> None:
    """Nobody logs in to the embedded Postgres without its password, and its folder is closed to others."""
    urls = connection.discover(place / ".hodei")
    assert urls is not None and urls.database_url is not None
    good = urls.database_url.replace("+psycopg2", "")
    psycopg2.connect(good).close()
    server = good.rpartition("@")[2]
    for user in ("hodei", "postgres", "root", "nobody"):
        for password in ("", ":", ":hodei", ":postgres"):
            with pytest.raises(psycopg2.OperationalError):
                psycopg2.connect(f"postgresql://{user}{password}@{server}", connect_timeout=3)
    assert not (place / ".hodei").stat().st_mode & 0o007, "nobody else comes in"
    assert place.stat().st_mode & 0o777 == 0o755, "no permission above the data folder is changed"


def test_demo_shows_its_first_line_in_time_succeeds_and_stops_with_nothing_left(place: Path) -> None:
    # given
    shop = f"postgresql://u:p@127.0.0.1:{free_port()}/shop"  # a database that is meant for something else

    # when
    terminal = Terminal([*HODEI, "demo"], environment(place, TMPDIR=str(place), DATABASE_URL=shop), place)
    try:
        terminal.process.wait(120)
        ended_s = time.monotonic() - terminal.began
    finally:
        terminal.close()

    # then
    assert terminal.process.returncode == 0, terminal.shown
    first_s = next(at for at, line in terminal.lines if line.startswith("    | step 1 of 3"))
    last_s = next(
        at for at, line in terminal.lines if line.strip().startswith("Status: ") or "SUCCEEDED" in line
    )
    assert first_s < FIRST_LINE_WITHIN_S * busy(), terminal.shown
    assert ended_s - last_s < STOPPED_WITHIN_S * busy()
    assert [line for _, line in terminal.lines if line.startswith("    | ")][-1] == "    | done"
    assert "SUCCEEDED (Status Code: 4), exit code 0" in terminal.shown
    for words in ("Worker made and connected", "domain_events", "hodei dev"):
        assert words in terminal.shown
    until(lambda: not with_text(str(place)), what="the end of all its processes")
    assert [path.name for path in place.iterdir()] == []
