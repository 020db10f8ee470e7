"""The file of a log: there before its job's end shows; and later, when its folder could not be written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.core import Core
from support.servers import Servers
from support.written_logs import LiveCore

from hodei.services import health, retention


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


def files(core: Core) -> list[tuple[str, int, int]]:
    rows = core.sql("SELECT storage_uri, size_bytes, entry_count FROM job_log_files")
    return [(row.storage_uri, row.size_bytes, row.entry_count) for row in rows]
