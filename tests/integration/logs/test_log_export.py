"""The file of a log: there before its job's end shows; and later, when its folder could not be written, or hung."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.core import Core
from support.servers import Servers
from support.waiting import until
from support.written_logs import LiveCore

from hodei.errors import DatabaseUnavailable
from hodei.logs import store
from hodei.logs.export import export_log
from hodei.sagas import settle
from hodei.services import health, retention
from hodei.storage.transaction import Row


@pytest.fixture
def core(database_url: str, servers: Servers, tmp_path: Path) -> Iterator[LiveCore]:
    opened = LiveCore(database_url, servers.redis_url, tmp_path)
    yield opened
    opened.close()


def test_a_folder_that_cannot_be_written_holds_up_no_end_and_its_logs_are_exported_later(
    core: LiveCore, tmp_path: Path
) -> None:
    # given a file where the folder of the logs should be
    folder = tmp_path / "logs"
    folder.write_text("in the way")
    job = core.write_job()
    job.write(b"one\n", b"two\n")

    # when
    job.end()

    # then the job has ended, its log is whole, and health says what is missing and where
    ended = core.job(job.job_id)
    assert ended.state == "SUCCEEDED"
    assert files(core) == []
    core.sql("UPDATE hodei.executions SET completed_at = completed_at - interval '3 min'")
    check = health.check(core.platform, "test")["checks"]["log_files"]
    assert not check["ok"]
    assert "1 logs could not be exported" in check["message"] and str(folder) in check["message"]
    assert retention.export_late(core.platform) == 0
    assert files(core) == []

    # and once the folder can be written, the clock exports it
    folder.unlink()
    assert retention.tidy_logs(core.platform) == 1
    [(uri, size, entries)] = files(core)
    assert (size, entries) == (8, 2)
    assert Path(urlsplit(uri).path).read_bytes() == b"one\ntwo\n"
    assert health.check(core.platform, "test")["checks"]["log_files"]["ok"]
    assert retention.export_late(core.platform) == 0


def test_what_an_export_that_was_killed_left_is_removed_by_the_next(core: LiveCore, tmp_path: Path) -> None:
    # given a job whose log was half exported when the process that did it died
    job = core.write_job()
    job.write(b"one\n")
    folder = tmp_path / "logs" / str(job.job_id)
    folder.mkdir(parents=True)
    (folder / f".{job.execution_id}.7.part").write_text("on")

    # when
    job.end()

    # then
    assert core.job(job.job_id).state == "SUCCEEDED"
    assert [path.name for path in folder.iterdir()] == [f"{job.execution_id}.log"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """Exports take as long as the test wants, and their callers wait for a moment."""
    monkeypatch.setattr(settle, "EXPORT_WAITS_S", 0.2)
    monkeypatch.setattr(retention, "EXPORT_LOOK_S", 0.2)
    made = Slow()
    monkeypatch.setattr(store, "raw", made.raw)
    yield made
    made.go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("log folder"):
            thread.join(10)


class Slow:
    """Reads a log as always, and then waits before the export can end."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun = 0
        self._raw = store.raw

    def raw(self, *log: object) -> Iterator[bytes]:
        self.begun += 1
        yield from self._raw(*log)  # type: ignore[arg-type]
        self.go_on.wait()


def test_a_folder_that_hangs_holds_up_neither_an_end_nor_the_clock(core: LiveCore, slow: Slow) -> None:
    # given
    jobs = [core.write_job() for _ in range(3)]
    for job in jobs:
        job.write(b"one\n")

    # when
    for job in jobs:
        job.end()

    # then
    assert [core.job(job.job_id).state for job in jobs] == ["SUCCEEDED"] * 3
    assert core.sql("SELECT count(*) AS n FROM hodei.executions WHERE log_to_export")[0].n == 3
    assert within(5, lambda: retention.tidy_logs(core.platform)) == 0
    assert slow.begun == 3


def test_a_log_that_takes_long_is_exported_once_and_whole(core: LiveCore, slow: Slow) -> None:
    # given an export that went on after its job's end, while the clock asked for it, too
    job = core.write_job()
    job.write(b"one\n", b"two\n")
    job.end()
    assert retention.export_late(core.platform) == 0
    assert files(core) == []

    # when
    slow.go_on.set()

    # then
    [(uri, size, entries)] = until(lambda: files(core), within_s=20)
    assert (size, entries) == (8, 2)
    assert Path(urlsplit(uri).path).read_bytes() == b"one\ntwo\n"
    assert core.sql("SELECT 1 FROM hodei.executions WHERE log_to_export") == []
    assert slow.begun == 1


def test_the_clock_exports_for_a_part_of_its_turns_limit(
    core: LiveCore, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given many logs that wait, and a folder that hangs
    monkeypatch.setattr(settle, "EXPORT_WAITS_S", 0.01)
    for _ in range(4):
        job = core.write_job()
        job.write(b"one\n")
        job.end()
    monkeypatch.setattr(retention, "EXPORT_LOOK_S", 60.0)
    monkeypatch.setattr(settle, "EXPORT_WAITS_S", 60.0)
    monkeypatch.setattr(retention, "EXPORTS_FOR_S", 0.3)

    # then
    assert within(3, lambda: retention.export_late(core.platform)) == 0


def test_files_that_cannot_be_deleted_for_long_hold_up_no_turn_and_are_marked_when_they_are(
    core: LiveCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    job = core.write_job()
    job.write(b"one\n")
    job.end()
    core.sql("UPDATE job_log_files SET expires_at = clock_timestamp()")
    go_on = threading.Event()
    monkeypatch.setattr(retention, "DELETES_FOR_S", 0.2)
    monkeypatch.setattr(retention, "delete_exported", lambda row: go_on.wait())

    # then
    assert within(5, lambda: retention.delete_files(core.platform)) == 0

    # and
    go_on.set()
    until(lambda: core.sql("SELECT 1 FROM job_log_files WHERE deleted_at IS NOT NULL"), within_s=20)


def test_the_file_is_on_the_disk_before_its_name_and_its_name_before_its_row(
    core: LiveCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    job = core.write_job()
    job.write(b"one\n")
    place = tmp_path / "logs" / str(job.job_id)
    target = place / f"{job.execution_id}.log"
    kept: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: kept.append((os.readlink(f"/proc/self/fd/{fd}"), target.exists()))
    )

    # when
    job.end()

    # then
    [(file, was_there), *names] = kept
    assert file.endswith(".part") and not was_there
    assert names == [(str(place), True), (str(place.parent), True)]


def test_whatever_fails_leaves_no_half_file(
    core: LiveCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given Postgres that goes away in the middle
    def away(*_: object) -> Iterator[bytes]:
        yield b"one\n"
        raise DatabaseUnavailable("away")

    job = core.write_job()
    job.write(b"one\n")
    monkeypatch.setattr(store, "raw", away)

    # when
    with pytest.raises(DatabaseUnavailable):
        export_log(core.database, tmp_path / "logs", execution(core))

    # then
    assert list((tmp_path / "logs" / str(job.job_id)).iterdir()) == []


def test_of_two_processes_that_export_the_same_log_the_first_leaves_it_to_the_second(
    core: LiveCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    job = core.write_job()
    job.write(b"one\n")
    row, folder, raw = execution(core), tmp_path / "logs", store.raw

    def overtaken(*log: object) -> Iterator[bytes]:
        monkeypatch.setattr(store, "raw", raw)
        export_log(core.database, folder, row)
        yield from raw(*log)  # type: ignore[arg-type]
        raise AssertionError("the first goes on")

    monkeypatch.setattr(store, "raw", overtaken)

    # when
    with pytest.raises(FileNotFoundError, match="somebody else exports it"):
        export_log(core.database, folder, row)

    # then
    assert [path.name for path in (folder / str(job.job_id)).iterdir()] == [f"{job.execution_id}.log"]


def within(seconds: float, act: Callable[[], int]) -> int:
    begun = time.monotonic()
    answer = act()
    assert time.monotonic() - begun < seconds
    return answer


def execution(core: Core) -> Row:
    return core.sql("SELECT * FROM hodei.executions")[0]


def files(core: Core) -> list[tuple[str, int, int]]:
    rows = core.sql("SELECT storage_uri, size_bytes, entry_count FROM job_log_files")
    return [(row.storage_uri, row.size_bytes, row.entry_count) for row in rows]
