"""What is hidden from jobs: not to be read by any way around, while the agent and everybody else still see it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_process import AGENT, NOBODY, Start
from agent_stand_in import StandIn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")

SECRET = b"nobody-may-know"
WAYS_IN = """
cd "$HOME"
cat {0}/secret ../../../secret ../../../../secret /proc/{1}/root{0}/secret /proc/{1}/cwd/secret /proc/1/root{0}/secret
umount {0}; umount -l {0}; mount -o remount,rw {0}
nsenter -t {1} -m cat {0}/secret; nsenter -t 1 -m cat {0}/secret
unshare -m sh -c 'umount {0}; cat {0}/secret'
unshare -Urm sh -c 'umount {0}; umount -l {0}; cat {0}/secret; mount --bind / /mnt; cat /mnt{0}/secret'
mv {0} {0}-moved; cat {0}-moved/secret; ln {0}/secret link; cat link
"""


@pytest.fixture
def kept() -> Iterator[Path]:
    """A folder with a secret, where every user can come."""
    around = Path(tempfile.mkdtemp(prefix="hodei-hiding-", dir="/tmp"))
    around.chmod(0o755)
    folder = around / "data"
    folder.mkdir(mode=0o755)
    (folder / "secret").write_bytes(SECRET)
    yield folder
    shutil.rmtree(around)


@pytest.fixture(params=["root", "nobody"])
def agent_of(request: pytest.FixtureRequest, kept: Path) -> Callable[..., dict]:
    """How to start the agent as that user, its state inside the folder; with ``hide`` or without."""
    if os.getuid() != 0:
        pytest.skip("only root can start the agent as another user")
    python = request.getfixturevalue("nobodys_python")
    user = NOBODY if request.param == "nobody" else None
    state = kept / "workers" / "state"
    state.mkdir(parents=True)
    for path in (kept, kept / "secret", kept / "workers", state):
        os.chown(path, user or 0, user or 0)

    def arguments(*, hide: bool = True) -> dict:
        words = [python, "-I", "-S", "-B", str(AGENT), *(["--hide", str(kept)] if hide else [])]
        return {"command": [*words, "--state-dir", str(state)], "user": user}

    return arguments


def test_a_hidden_folder_is_read_by_no_way_around(
    platform: StandIn, start: Start, agent_of: Callable[..., dict], kept: Path
) -> None:
    # when
    platform.run(shell=WAYS_IN.format(kept, "$PPID") + "echo tried everything")
    start(**agent_of()).end()
    # then
    assert platform.output(1) == b"tried everything\n", platform.output(2)
    assert platform.output(2).count(b"\n") > 12
    assert (kept / "secret").read_bytes() == SECRET


def test_without_hiding_the_same_job_reads_it(
    platform: StandIn, start: Start, agent_of: Callable[..., dict], kept: Path
) -> None:
    platform.run(shell=f"cat {kept}/secret")

    start(**agent_of(hide=False)).end()

    assert platform.output(1) == SECRET


def test_what_is_put_there_later_is_hidden_too_and_others_see_it(
    platform: StandIn, start: Start, agent_of: Callable[..., dict], kept: Path
) -> None:
    # given
    platform.run(
        shell=f"echo ready; until test -e {kept}/../go; do sleep 0.02; done; ls {kept}; cat {kept}/*"
    )
    agent = start(**agent_of())
    platform.wait_for(lambda: platform.frames.get("e-1"))
    # when
    (kept / "new").write_bytes(SECRET)
    (kept / "new").replace(kept / "secret")
    (kept.parent / "go").touch()
    seen_by_agent = Path(f"/proc/{agent.process.pid}/root{kept}/secret").read_bytes()
    agent.end()
    # then
    assert platform.output(1) == b"ready\nworkers\n"
    assert seen_by_agent == SECRET


def test_the_jobs_own_folders_stay_usable_and_nothing_of_it_is_left(
    platform: StandIn, start: Start, agent_of: Callable[..., dict], kept: Path
) -> None:
    # given
    shell = """set -e; test "$PWD" = "$HOME"; cd ..; cd "$HOME"; echo 1 > file; echo 2 > "$TMPDIR/file"; echo 3 > /tmp/$$
rm /tmp/$$; test "$(stat -c %u file)" = "$(id -u)"; test -r /proc/$PPID/stat; setsid sleep 1000 & echo $!; exit 3"""
    platform.run(shell=shell, grace_s=1.0)
    # when
    code, _, err = start(**agent_of()).end()
    # then
    assert (code, platform.results["e-1"]["exit_code"]) == (0, 3), err
    assert not Path(f"/proc/{int(platform.output(1))}").exists()
    assert list((kept / "workers" / "state").iterdir()) == []


def test_a_script_of_the_job_is_found(platform: StandIn, start: Start, agent_of: Callable[..., dict]) -> None:
    platform.run(script="#!/bin/sh\necho hello\n")

    start(**agent_of()).end()

    assert platform.output(1) == b"hello\n"


def test_a_job_from_which_nothing_can_be_hidden_is_not_started(
    platform: StandIn, start: Start, kept: Path, nobodys_python: str
) -> None:
    # given
    setpriv = shutil.which("setpriv") or pytest.skip("no setpriv here")
    without = [setpriv, "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    platform.run(shell=f"cat {kept}/secret")
    # when
    start(command=[*without, nobodys_python, "-I", "-S", "-B", str(AGENT), "--hide", str(kept)]).end()
    # then
    result = platform.results["e-1"]
    assert (result["outcome"], result["error_code"]) == ("not_started", "ERR_1010")
    assert "HODEI_DATABASE_URL" in result["error_message"] and "unshare" in result["error_message"]
    assert platform.output(1) == b""
