"""What process workers leave on the disk, and jobs that make it hard to remove."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from places import FACT_S, ProcessPlace
from structlog.testing import capture_logs

from hodei.providers.contract import ResourceState, WorkerRequest
from hodei.providers.process import proc
from hodei.providers.process.folder import Folders

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes as workers need Linux")

NOBODY = 65534
STOPS_AT_THE_FIRST_FILE = """
import os, signal, sys
from pathlib import Path
from uuid import UUID, uuid4
from hodei.providers.process.provider import ProcessProvider
provider = ProcessProvider(uuid4(), server_url="http://127.0.0.1:9", data_dir=Path(sys.argv[1]))
sys.addaudithook(lambda event, _: os.kill(os.getpid(), signal.SIGSTOP) if event == "os.remove" else None)
provider.stop(UUID(sys.argv[2]))
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[ProcessPlace]:
    made = ProcessPlace(tmp_path)
    yield made
    made.clean_up()


@pytest.fixture
def nobodys_place() -> Iterator[ProcessPlace]:
    """Where the platform is a user without rights; the test's own hands are root's."""
    if os.getuid() != 0:
        pytest.skip("only root can leave files of root")
    path = Path(tempfile.mkdtemp(prefix="hodei-test-"))
    os.chown(path, NOBODY, NOBODY)
    yield ProcessPlace(path)
    shutil.rmtree(path)


@contextmanager
def as_nobody() -> Iterator[None]:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def ended_worker(place: ProcessPlace) -> tuple[WorkerRequest, Path]:
    """A worker without processes, and its job's home."""
    request = place.request()
    place.leave_half_made(request)
    home = Folders(place.folder).of(place.deployment, request.worker_id).state / "home"
    home.mkdir(parents=True)
    return request, home


def left_in(place: ProcessPlace) -> list[Path]:
    """All folders beside the running workers'."""
    return [path for path in place.folder.glob("workers/*/*") if path.is_dir()]


def test_files_of_root_in_a_jobs_home_hold_up_no_end_and_are_said_once(nobodys_place: ProcessPlace) -> None:
    # given what `docker run -v` leaves, and what the job closed itself
    place = nobodys_place
    provider = place.open()
    with as_nobody():
        request, home = ended_worker(place)
        other, _ = ended_worker(place)
        (home / "closed").mkdir()
        (home / "closed" / "file").touch()
        (home / "closed").chmod(0)
    (home / "of-root").mkdir(mode=0o755)
    (home / "of-root" / "file").touch()
    (home / "of-root-and-empty").mkdir(mode=0o755)

    # when
    with as_nobody(), capture_logs() as said:
        provider.stop(request.worker_id)
        provider.stop(other.worker_id)

    # then
    assert provider.inspect(request.worker_id).state is ResourceState.GONE
    assert provider.list_workers(place.deployment) == []
    (left,) = left_in(place)
    assert [path.name for path in left.rglob("*") if path.is_file()] == ["file"]
    (line,) = said
    assert (line["event"], line["path"]) == ("worker.folder_not_removed", str(left))
    assert line["worker_id"] == str(request.worker_id) and line["reason"].endswith("/of-root'")


def test_a_removal_that_takes_long_holds_up_nobody_and_another_process_finishes_it(
    place: ProcessPlace,
) -> None:
    # given a process that has just begun to remove a folder
    provider = place.open()
    request, home = ended_worker(place)
    (home / "file").touch()
    command = [sys.executable, "-c", STOPS_AT_THE_FIRST_FILE, str(place.folder), str(request.worker_id)]
    with subprocess.Popen(command) as remover, ThreadPoolExecutor(1) as threads:
        try:
            os.waitid(os.P_PID, remover.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

            # when
            other = place.request()
            threads.submit(provider.start, other).result(timeout=FACT_S)
            provider.stop(other.worker_id)

            # then
            assert provider.inspect(request.worker_id).state is ResourceState.GONE
            assert len(left_in(place)) == 1
        finally:
            remover.kill()

    # when it has died, and the platform asks again for what it did not finish
    provider.stop(request.worker_id)

    # then
    assert remover.returncode == -signal.SIGKILL
    assert left_in(place) == []


def test_what_a_job_mounted_in_its_home_is_left_alone(place: ProcessPlace, tmp_path: Path) -> None:
    # given
    provider = place.open()
    request, home = ended_worker(place)
    (home / "of-the-job").touch()
    (home / "data").mkdir()
    precious = tmp_path / "elsewhere" / "file"
    precious.parent.mkdir()
    precious.touch()
    mounted = subprocess.run(["mount", "--bind", precious.parent, home / "data"], capture_output=True)
    if mounted.returncode != 0 and os.environ.get("CI") != "true":
        pytest.skip("nothing can be mounted here")
    assert mounted.returncode == 0, mounted.stderr

    # when
    try:
        with capture_logs() as said:
            provider.stop(request.worker_id)
    finally:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if (where := line.split()[4]).startswith(str(tmp_path)):
                subprocess.run(["umount", where], check=True)

    # then
    assert precious.exists()
    assert provider.inspect(request.worker_id).state is ResourceState.GONE
    assert list(place.folder.rglob("of-the-job")) == []
    assert [line["reason"].partition(":")[0] for line in said] == ["Device or resource busy"]


def test_folders_deeper_than_any_path_are_removed(place: ProcessPlace) -> None:
    provider = place.open()
    request, home = ended_worker(place)
    handle = os.open(home, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)

    provider.stop(request.worker_id)

    assert left_in(place) == []


def test_a_folder_that_its_job_closed_hides_no_other_worker_and_is_removed(
    nobodys_place: ProcessPlace,
) -> None:
    # given
    place = nobodys_place
    provider = place.open()
    with as_nobody():
        request, home = ended_worker(place)
        other, _ = ended_worker(place)
        home.parent.parent.chmod(0)

        # then
        listed = {view.worker_id for view in provider.list_workers(place.deployment)}
        assert listed == {request.worker_id, other.worker_id}

        # when
        provider.stop(request.worker_id)
        provider.stop(other.worker_id)

    # then
    assert left_in(place) == []


def test_a_worker_whose_record_its_job_replaced_is_found_by_its_processes_and_ended(
    place: ProcessPlace,
) -> None:
    # given
    provider = place.open()
    request = place.request()
    pid = int(provider.start(request))
    record = Folders(place.folder).of(place.deployment, request.worker_id).path / "worker.json"
    record.unlink()
    record.mkdir()

    # then
    (view,) = provider.list_workers(place.deployment)
    assert (view.state, view.resource_id) == (ResourceState.RUNNING, str(pid))

    # when
    provider.stop(request.worker_id)

    # then
    assert place.traces(request.worker_id) == [] and left_in(place) == []
    seen = proc.look(pid)
    assert seen is None or not seen.is_alive
