"""How long logs are kept: partitions by day, dropped whole, and never too early."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest
from alembic import command
from hodei_agent.frames import Segment, pack, split
from psycopg2 import sql
from sqlalchemy import create_engine
from support.core import Core, refused
from support.platform import RunningPlatform
from support.servers import Servers, drop_database, with_driver
from support.written_logs import LiveCore, WrittenJob

from hodei.errors import DatabaseUnavailable, LogExpired, StaleAttempt
from hodei.ports import Platform
from hodei.services import following, logs, retention
from hodei.services.clock import LOOPS
from hodei.storage import migrate

DAY_S = 86_400.0


@pytest.fixture
def core(database_url: str, servers: Servers, tmp_path: Path) -> Iterator[LiveCore]:
    opened = LiveCore(database_url, servers.redis_url, tmp_path, log_retention=2 * DAY_S)
    yield opened
    opened.close()


def aged(core: Core, job: WrittenJob, days: float) -> None:
    """As if the job's execution had been made, and had ended if it did, so many days ago; its chunks move with it."""
    core.sql(
        "UPDATE hodei.executions SET created_at = created_at - make_interval(secs => :age_s),"
        " completed_at = completed_at - make_interval(secs => :age_s) WHERE id = :id",
        age_s=days * DAY_S, id=job.execution_id,
    )  # fmt: skip
    day = core.sql("SELECT log_day FROM hodei.executions WHERE id = :id", id=job.execution_id)[0].log_day
    core.sql("SELECT hodei.open_log_day(CAST(:day AS date))", day=day)
    core.sql(
        "UPDATE hodei.log_chunks SET log_day = :day WHERE execution_id = :id", day=day, id=job.execution_id
    )
    core.sql(
        "UPDATE job_log_files SET expires_at = expires_at - make_interval(secs => :age_s)"
        " WHERE execution_id = :id",
        age_s=days * DAY_S, id=job.execution_id,
    )  # fmt: skip


def partitions(core: Core) -> set[date]:
    rows = core.sql(
        "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'hodei.log_chunks'::regclass"
    )
    return {date.fromisoformat(row.name.removeprefix("log_chunks_")) for row in rows}


def read(core: LiveCore, job: WrittenJob) -> bytes:
    view = logs.find(core.platform, logs.Which(job_id=job.job_id))
    return b"".join(data for _, data in logs.pieces(core.platform, view, logs.Part()))


def today() -> date:
    return datetime.now(UTC).date()


def test_a_day_is_dropped_whole_when_all_of_it_has_expired(core: LiveCore) -> None:
    # given
    old, new = core.write_job(), core.write_job()
    for job in (old, new):
        job.write(b"hello\n")
        job.end()
    aged(core, old, 4)
    [row] = core.sql("SELECT storage_uri FROM job_log_files WHERE job_id = :id", id=old.job_id)
    file = Path(urlsplit(row.storage_uri).path)
    assert file.read_bytes() == b"hello\n"

    # when
    retention.tidy_logs(core.platform)

    # then
    assert today() - timedelta(days=4) not in partitions(core)
    assert core.sql("SELECT count(*) AS n FROM hodei.log_chunks")[0].n == 1
    assert not file.exists()
    assert not file.parent.exists()
    rows = core.sql("SELECT job_id FROM job_log_files WHERE deleted_at IS NOT NULL")
    assert [row.job_id for row in rows] == [old.job_id]
    assert read(core, new) == b"hello\n"
    which = logs.Which(job_id=old.job_id)
    for look in (
        lambda: logs.find(core.platform, which),
        lambda: following.begin(core.platform, which, logs.Part(), None),
    ):
        error = refused(look)
        assert isinstance(error, LogExpired)
        assert "HODEI_LOG_RETENTION" in error.message
    assert retention.tidy_logs(core.platform) == 0


def test_a_day_is_dropped_though_all_else_fails(core: LiveCore, monkeypatch: pytest.MonkeyPatch) -> None:
    # given Postgres whose disk is full
    def full(platform: Platform) -> int:
        raise DatabaseUnavailable("no space left on device")

    def broken(platform: Platform) -> int:
        tried.append("export")
        raise OSError("broken")

    tried: list[str] = []
    old = core.write_job()
    old.write(b"old\n")
    old.end()
    aged(core, old, 4)
    monkeypatch.setattr(retention, "open_days", full)
    monkeypatch.setattr(retention, "delete_files", full)
    monkeypatch.setattr(retention, "export_late", broken)

    # when
    with pytest.raises(DatabaseUnavailable, match="no space left"):
        retention.tidy_logs(core.platform)

    # then
    assert today() - timedelta(days=4) not in partitions(core)
    assert tried == ["export"]


def test_a_day_stays_while_a_job_of_it_runs_or_has_just_ended(core: LiveCore) -> None:
    # given a job that was made long ago, beside one that has long ended
    ended, running = core.write_job(), core.write_job()
    for job in (ended, running):
        job.write(b"first\n")
    ended.end()
    for job in (ended, running):
        aged(core, job, 9)

    # then
    assert retention.drop_days(core.platform) == 0
    running.write(b"second\n")
    assert read(core, running) == b"first\nsecond\n"
    running.end()
    assert retention.drop_days(core.platform) == 0
    assert read(core, running) == b"first\nsecond\n"
    assert isinstance(refused(lambda: read(core, ended)), LogExpired)

    # until that one's log has expired too
    core.sql("UPDATE job_log_files SET expires_at = clock_timestamp()")
    assert retention.drop_days(core.platform) == 1


def test_a_day_in_use_is_left_for_the_next_time_and_stops_nobody(core: LiveCore) -> None:
    # given somebody who reads for long
    old, live = core.write_job(), core.write_job()
    old.write(b"old\n")
    old.end()
    aged(core, old, 5)
    url = core.database.url.replace("+psycopg2", "")
    reader = psycopg2.connect(url)
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM hodei.log_chunks")

        # when
        dropped: list[int] = []
        dropper = threading.Thread(target=lambda: dropped.append(retention.drop_days(core.platform)))
        dropper.start()
        live.write(b"written meanwhile\n")
        dropper.join(5)

    # then
    assert dropped == [0]
    assert read(core, live) == b"written meanwhile\n"
    reader.close()
    assert retention.drop_days(core.platform) == 1


def test_days_are_open_before_they_come(core: LiveCore) -> None:
    core.sql("DROP TABLE " + ", ".join(f"hodei.log_chunks_{day:%Y%m%d}" for day in partitions(core)))
    core.sql("DELETE FROM hodei.log_days")

    assert "logs" in [loop.name for loop in LOOPS]
    assert retention.tidy_logs(core.platform) == 4

    assert partitions(core) == {today() + timedelta(days=ahead) for ahead in range(4)}


def test_output_of_a_day_that_nobody_opened_is_stored_all_the_same(core: LiveCore) -> None:
    job = core.write_job()
    core.sql("DROP TABLE " + ", ".join(f"hodei.log_chunks_{day:%Y%m%d}" for day in partitions(core)))
    core.sql("DELETE FROM hodei.log_days")

    job.write(b"one\n")
    job.write(b"two\n")

    assert read(core, job) == b"one\ntwo\n"
    assert partitions(core) == {today()}


def test_output_that_comes_after_its_log_has_expired_is_refused_as_stale(core: LiveCore) -> None:
    # given an attempt that was reported and whose day is gone
    job = core.write_job()
    job.end()
    core.sql("UPDATE hodei.log_days SET dropped_at = clock_timestamp() WHERE day = :day", day=today())

    # then
    assert isinstance(refused(lambda: job.write(b"late\n")), StaleAttempt)


def test_what_expired_is_410_over_http(
    http: httpx.Client, writer: LiveCore, serving: RunningPlatform
) -> None:
    job = writer.write_job()
    job.write(b"x\n")
    job.end()
    writer.sql("UPDATE job_log_files SET expires_at = clock_timestamp() WHERE job_id = :id", id=job.job_id)

    for query in ("", "raw=1", "follow=1", "tail=1"):
        answer = http.get(f"{job.path}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (410, "log_expired")
    shown = serving.hodei("job", "logs", str(job.job_id))
    assert shown.returncode == 3
    assert "has expired" in shown.stderr


@pytest.fixture
def first_schema(servers: Servers) -> Iterator[str]:
    """The URL of a database as the first version made it."""
    name = f"hodei_first_{secrets.token_hex(6)}"
    admin = psycopg2.connect(servers.admin_url)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    admin.close()
    url = with_driver(servers.url(name))
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE SCHEMA hodei")
        command.upgrade(migrate._config(connection), "0001")
        connection.commit()
    engine.dispose()
    yield url
    drop_database(servers, name)


def test_logs_written_before_there_were_days_are_kept(
    first_schema: str, servers: Servers, tmp_path: Path
) -> None:
    # given a job of ten days ago with its log
    [stored] = split(pack(1, 1, [Segment(1, 1_000_000, b"kept \xff\n")])[0])
    engine = create_engine(first_schema)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (id, name, spec, state, correlation_id, attempts, completed_at) VALUES"
            " ('0196a3c4-0000-7000-8000-000000000001', 'old', '{}', 'SUCCEEDED',"
            " '0196a3c4-0000-7000-8000-000000000001', 1, now())"
        )
        connection.exec_driver_sql(
            "INSERT INTO hodei.executions (id, job_id, attempt, worker_id, state, last_frame, log_entries, log_bytes,"
            " log_complete, created_at, completed_at) VALUES ('0196a3c4-0000-7000-8000-000000000002',"
            " '0196a3c4-0000-7000-8000-000000000001', 1, '0196a3c4-0000-7000-8000-000000000003', 'completed',"
            " 1, 1, 7, true, now() - interval '10 days', now())"
        )
        connection.exec_driver_sql(
            "INSERT INTO hodei.log_chunks (execution_id, seq, first_entry, entries, plain_size, codec, crc32, data)"
            " VALUES ('0196a3c4-0000-7000-8000-000000000002', 1, 1, 1, %s, %s, %s, %s)",
            (stored.plain_size, stored.codec, stored.crc32, stored.payload),
        )
    engine.dispose()

    # when
    assert migrate.upgrade(first_schema) is True

    # then
    core = LiveCore(first_schema, servers.redis_url, tmp_path)
    try:
        which = logs.Which(job_id=core.sql("SELECT id FROM jobs")[0].id)
        view = logs.find(core.platform, which)
        assert [entry.data for entry in logs.entries(core.platform, view, logs.Part())] == [b"kept \xff\n"]
        assert today() - timedelta(days=10) in partitions(core)
        assert core.sql("SELECT to_regclass('hodei.log_chunks_before') AS t")[0].t is None
    finally:
        core.close()
