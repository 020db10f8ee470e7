"""What only workers as processes have to get right."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ProcessPlace, eventually
from stand_in import StandIn

from hodei.embedded.process_identity import started_at
from hodei.providers.contract import ProviderError, ResourceState
from hodei.providers.process import proc
from hodei.providers.process.folder import Folders
from hodei.providers.process.hiding import HIDDEN, NOTHING

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes as workers need Linux")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[ProcessPlace]:
    made = ProcessPlace(tmp_path)
    yield made
    made.clean_up()


def test_what_a_killed_agent_left_running_is_ended_too(place: ProcessPlace, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    line = (
        f"setsid sleep 600 & echo $! >> {pids}; (sleep 600 & echo $! >> {pids}); echo $$ >> {pids}; sleep 600"
    )
    platform = StandIn("127.0.0.1", {"shell": line})
    try:
        provider = place.open(platform.address)
        request = place.request()
        provider.start(request)
        assert eventually(lambda: pids.exists() and len(pids.read_text().split()) == 3)
        left = [seen.process for pid in pids.read_text().split() if (seen := proc.look(int(pid)))]
        assert len(left) == 3

        place.kill(request.worker_id)
        provider.stop(request.worker_id)

        assert not any(proc.is_alive(process) for process in left)
        assert place.traces(request.worker_id) == []
    finally:
        platform.close()


def test_a_process_whose_name_is_no_text_is_seen_and_ended(place: ProcessPlace, tmp_path: Path) -> None:
    """The kernel keeps 15 bytes of a name, and cuts it wherever that is."""
    pid = tmp_path / "pid"
    program = "program-äöüäöü"
    line = f'cp "$(command -v sleep)" {program}; echo $$ > {pid}; exec ./{program} 600'
    platform = StandIn("127.0.0.1", {"shell": line})
    try:
        provider = place.open(platform.address)
        request = place.request()
        provider.start(request)
        cut = program.encode()[:15]
        assert eventually(
            lambda: pid.exists() and Path(f"/proc/{pid.read_text().strip()}/comm").read_bytes() == cut + b"\n"
        )
        named = proc.look(int(pid.read_text()))
        assert named is not None and started_at(named.process.pid) == str(named.process.started)

        provider.stop(request.worker_id)

        assert not proc.is_alive(named.process)
        assert place.traces(request.worker_id) == []
    finally:
        platform.close()


def test_the_agent_inherits_nothing_of_the_platform(
    place: ProcessPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HODEI_DATABASE_URL", "postgresql://secret")
    seen = tmp_path / "environment"
    platform = StandIn("127.0.0.1", {"shell": f"env > {seen}; ls /proc/$PPID/fd > {seen}.fds; pwd"})
    try:
        provider = place.open(platform.address)
        request = place.request()
        provider.start(request)
        assert platform.finished.wait(60)
    finally:
        platform.close()

    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert names <= {
        "PATH", "HOME", "LANG", "TMPDIR", "HODEI_JOB_ID", "HODEI_EXECUTION_ID", "HODEI_ATTEMPT",
        "HODEI_OUTPUT", "PWD", "SHLVL", "_", "OLDPWD",
    }  # fmt: skip
    assert str(request.worker_id) in platform.output.decode()


def test_a_workers_folder_is_its_owners_alone(place: ProcessPlace, tmp_path: Path) -> None:
    request = place.request()
    place.open().start(request)

    folder = tmp_path / "workers" / place.deployment / str(request.worker_id)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "worker.json").stat().st_mode) == 0o600


def test_a_process_that_was_started_but_not_noted_is_found_again(place: ProcessPlace) -> None:
    provider = place.open()
    request = place.request()
    resource_id = provider.start(request)
    place.leave_half_made(request)  # the record of a start that was cut short between process and note

    assert provider.inspect(request.worker_id).resource_id == resource_id
    assert provider.start(request) == resource_id


def test_a_process_whose_record_was_damaged_is_found_again(place: ProcessPlace) -> None:
    provider = place.open()
    request = place.request()
    resource_id = provider.start(request)
    (Folders(place.folder).of(place.deployment, request.worker_id).path / "worker.json").write_bytes(b"")

    assert provider.inspect(request.worker_id).state is ResourceState.RUNNING
    assert provider.start(request) == resource_id


def test_workers_are_ended_also_where_the_kernel_has_no_pidfd_open(
    place: ProcessPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    provider = place.open()
    request = place.request()
    provider.start(request)

    provider.stop(request.worker_id)

    assert provider.inspect(request.worker_id).state is ResourceState.GONE
    assert place.traces(request.worker_id) == []


@pytest.mark.parametrize("rebooted", [False, True])
def test_a_number_that_was_given_to_another_process_is_not_touched(
    place: ProcessPlace, rebooted: bool
) -> None:
    provider = place.open()
    request = place.request()
    provider.start(request)
    place.kill(request.worker_id)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            seen = proc.look(stranger.pid)
            assert seen is not None
            folder = Folders(place.folder).of(place.deployment, request.worker_id)
            record = folder.read()
            assert record is not None
            folder.write(
                type(record)(
                    worker_id=record.worker_id,
                    job_id=None,
                    boot_id="before" if rebooted else record.boot_id,
                    pid=stranger.pid,
                    started=seen.process.started if rebooted else seen.process.started - 1,
                )
            )

            exited = provider.inspect(request.worker_id).state
            provider.stop(request.worker_id)

            assert exited is ResourceState.EXITED
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_worker_of_before_a_reboot_is_exited(place: ProcessPlace) -> None:
    provider = place.open()
    request = place.request()
    provider.start(request)
    pid = int(provider.inspect(request.worker_id).resource_id or 0)
    folder = Folders(place.folder).of(place.deployment, request.worker_id)
    record = folder.read()
    assert record is not None

    folder.write(type(record)(worker_id=record.worker_id, job_id=None, boot_id="before", pid=pid, started=1))

    assert provider.inspect(request.worker_id).state is ResourceState.EXITED


def test_an_ended_agent_leaves_no_zombie(place: ProcessPlace) -> None:
    provider = place.open()
    request = place.request()
    pid = int(provider.start(request))

    os.kill(pid, signal.SIGKILL)

    assert eventually(lambda: proc.look(pid) is None)
    assert provider.inspect(request.worker_id).exit_code == -signal.SIGKILL


def test_an_image_is_refused_and_not_ignored(place: ProcessPlace) -> None:
    request = place.request(image="python:3.12")

    with pytest.raises(ProviderError) as caught:
        place.open().start(request)

    assert caught.value.failure.code == "ERR_1010"
    assert place.traces(request.worker_id) == []


def test_limits_are_refused_where_cgroups_are_off(place: ProcessPlace) -> None:
    place.config = {"cgroups": False}
    provider = place.open()
    request = place.request(memory_bytes=1 << 27)

    with pytest.raises(ProviderError) as caught:
        provider.start(request)

    assert caught.value.failure.code == "ERR_3002" and "--memory" in caught.value.failure.message
    assert not provider.capabilities().memory_limits
    assert place.traces(request.worker_id) == []


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A data folder with the platform's key."""
    path = tmp_path / "secret.key"
    path.write_text("nobody-may-know")
    return path


def output_of(place: ProcessPlace, line: str) -> bytes:
    """What a job that is this shell line writes."""
    platform = StandIn("127.0.0.1", {"shell": line})
    try:
        place.open(platform.address).start(place.request())
        assert platform.finished.wait(60)
        return platform.output
    finally:
        platform.close()


def test_the_platforms_own_files_are_hidden_from_jobs(place: ProcessPlace, secret: Path) -> None:
    if place.open().health().checks["hiding"] != HIDDEN and os.environ.get("CI") != "true":
        pytest.skip("this machine lets nobody hide files from a process")

    seen = output_of(place, f"cat {secret} 2>&1; ls {secret.parent}")

    assert seen.endswith(b"No such file or directory\nworkers\n") and b"nobody-may-know" not in seen
    assert secret.read_text() == "nobody-may-know"


def test_what_a_killed_agent_left_is_found_though_it_left_its_folder_and_forgot_its_environment(
    place: ProcessPlace, secret: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # given a job's daemon in another folder, with an empty environment, in no cgroup and of no parent
    place.config = {"cgroups": False}
    if place.open().health().checks["hiding"] != HIDDEN and os.environ.get("CI") != "true":
        pytest.skip("this machine lets nobody hide files from a process")
    pid = tmp_path_factory.mktemp("elsewhere") / "pid"
    daemon = f"cd /; echo $$ > {pid}; exec env -i sleep 600"
    platform = StandIn("127.0.0.1", {"shell": f"setsid sh -c '{daemon}' </dev/null & sleep 600"})
    try:
        provider = place.open(platform.address)
        request = place.request()
        provider.start(request)
        assert eventually(lambda: pid.exists() and pid.read_text().strip() != "")
        left = proc.look(int(pid.read_text()))
        assert left is not None

        # when
        place.kill(request.worker_id)
        provider.stop(request.worker_id)

        # then
        assert not proc.is_alive(left.process)
    finally:
        platform.close()


def test_a_folder_without_secrets_is_not_hidden(place: ProcessPlace, tmp_path: Path) -> None:
    (tmp_path / "harmless").touch()

    assert output_of(place, f"ls {tmp_path}/harmless") == f"{tmp_path}/harmless\n".encode()
    assert place.open().health().checks["hiding"] == NOTHING


def test_where_nothing_can_be_hidden_jobs_run_and_the_health_says_so(
    place: ProcessPlace, secret: Path
) -> None:
    place.config = {"hiding": "off"}

    health = place.open().health()

    assert health.ok
    assert "can read the passwords" in health.message and "HODEI_DATABASE_URL" in health.checks["hiding"]
    assert output_of(place, f"cat {secret}; echo") == b"nobody-may-know\n"


@pytest.mark.parametrize("hiding", ["auto", "required"])
def test_a_kernel_that_refuses_is_found_out(
    place: ProcessPlace, secret: Path, hiding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    if os.getuid() != 0:
        pytest.skip("only root can take a capability from itself")
    setpriv = shutil.which("setpriv") or pytest.skip("no setpriv here")
    unable = tmp_path / "python"
    unable.write_text(f'#!/bin/sh\nexec {setpriv} --bounding-set -sys_admin {sys.executable} "$@"\n')
    unable.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(unable))
    place.config = {"hiding": hiding}
    provider = place.open()
    # when
    health = provider.health()
    # then
    assert "unshare" in health.message and health.ok is (hiding == "auto")
    request = place.request()
    if hiding == "auto":
        assert output_of(place, f"cat {secret}; echo") == b"nobody-may-know\n"
    else:
        with pytest.raises(ProviderError) as caught:
            provider.start(request)
        assert caught.value.failure.code == "ERR_1010" and "Use Docker" in caught.value.failure.message
        assert place.traces(request.worker_id) == []
