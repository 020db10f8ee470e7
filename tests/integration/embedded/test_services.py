"""The embedded servers, with the real programs of the wheels."""

from __future__ import annotations

import base64
import os
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hodei.embedded import wheels
from hodei.embedded.connection import discover
from hodei.embedded.errors import AlreadyRunning, DataFolderRefused
from hodei.embedded.services import EmbeddedServices

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="root starts the servers as another user")


def query(url: str | None, statement: str) -> list[tuple[object, ...]]:
    assert url
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def client(url: str | None) -> redis.Redis:
    assert url
    return redis.Redis.from_url(url)


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedServices]:
    with EmbeddedServices.start(ephemeral=True) as services:
        yield services


def test_data_survive_a_restart(place: Path) -> None:
    with EmbeddedServices.start(place / ".hodei") as first:
        query(first.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        with client(first.redis_url) as broker:
            broker.set("kept", "too")
        key, urls = first.secret_key, (first.database_url, first.redis_url)

    with EmbeddedServices.start(place / ".hodei") as second:
        assert query(second.database_url, "SELECT answer FROM kept") == [(42,)]
        with client(second.redis_url) as broker:
            assert broker.get("kept") == b"too"
        assert second.secret_key == key
        assert (second.database_url, second.redis_url) == urls
        assert query(second.database_url, "SHOW fsync") == [("on",)]


def test_the_secret_key_is_32_bytes_in_url_safe_base64(running: EmbeddedServices) -> None:
    assert len(base64.urlsafe_b64decode(running.secret_key)) == 32


def test_the_platforms_role_is_no_superuser_and_can_make_databases(running: EmbeddedServices) -> None:
    rights = query(
        running.database_url, "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user"
    )

    assert rights == [(False, True)]


def test_a_wrong_or_missing_password_is_refused(running: EmbeddedServices) -> None:
    assert running.database_url and running.redis_url
    password = running.database_url.split(":")[2].split("@")[0]
    for user, wrong in (("hodei", "wrong"), ("postgres", password)):
        url = running.database_url.replace(f"hodei:{password}", f"{user}:{wrong}")
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(url)
    with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
        psycopg2.connect(running.database_url.replace(f":{password}", ""))
    port = int(running.redis_url.split(":")[-1].split("/")[0])
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger:
        with pytest.raises(redis.exceptions.AuthenticationError):
            stranger.ping()


@only_root
def test_another_local_user_is_not_trusted(running: EmbeddedServices) -> None:
    sockets = str(running.data_dir / "run")
    owner = pwd.getpwuid((running.data_dir / "run").stat().st_uid)
    psql = shutil.which("psql", path="/usr/bin") or str(wheels.psql())
    for uid, gid, refusal in (
        (65534, 65534, "Permission denied"),
        (owner.pw_uid, owner.pw_gid, "no password supplied"),
    ):
        command = ["setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups", psql]
        tried = subprocess.run(
            [*command, "-w", "-h", sockets, "-U", "postgres", "-c", "SELECT 1"],
            capture_output=True,
            text=True,
        )
        if "cannot execute" in tried.stderr or "shared libraries" in tried.stderr:
            pytest.skip("the only psql here is closed to other users")
        assert tried.returncode != 0
        assert refusal in tried.stderr


def test_postgres_does_not_listen_on_the_network(running: EmbeddedServices) -> None:
    assert query(running.database_url, "SHOW listen_addresses") == [("",)]


@only_root
def test_the_servers_run_as_a_user_of_their_own(running: EmbeddedServices) -> None:
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in running.pids.values()}

    assert len(owners) == 1
    assert owners != {0}


def test_no_password_is_on_a_command_line_or_in_an_environment(running: EmbeddedServices) -> None:
    secrets = (running.data_dir / "credentials.json").read_text().split('"')[3::4]
    assert len(secrets) == 3
    for pid in running.pids.values():
        shown = Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
        assert not any(secret in shown for secret in secrets)


def test_no_permission_above_the_data_folder_changes_and_nobody_else_gets_in(place: Path) -> None:
    def look() -> list[tuple[int, int, int]]:
        stats = (folder.stat() for folder in (place / "project", *(place / "project").parents))
        return [(found.st_mode, found.st_uid, found.st_gid) for found in stats]

    (place / "project").mkdir()
    before = look()
    data = place / "project" / ".hodei"

    with EmbeddedServices.start(data):
        during = look()
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in data.iterdir()}

    assert before == during == look()
    assert data.stat().st_mode & 0o007 == 0
    assert {name for name, mode in modes.items() if mode & 0o077} <= {".gitignore"}


@only_root
def test_a_data_folder_below_a_closed_one_is_refused(place: Path) -> None:
    place.chmod(0o700)

    with pytest.raises(DataFolderRefused, match=f"cannot pass {place}: choose a data folder elsewhere"):
        EmbeddedServices.start(place / "data")

    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_folder_with_other_things_in_it_is_refused(place: Path) -> None:
    (place / "thesis.tex").touch()

    with pytest.raises(DataFolderRefused, match="holds other things"):
        EmbeddedServices.start(place)

    assert stat.S_IMODE(place.stat().st_mode) == 0o755


def test_a_second_start_on_the_same_data_is_refused(running: EmbeddedServices) -> None:
    with pytest.raises(
        AlreadyRunning, match=rf"already runs on {running.data_dir} \(process {os.getpid()}\)"
    ):
        EmbeddedServices.start(running.data_dir)


def test_others_find_running_servers_by_their_folder(running: EmbeddedServices) -> None:
    found = discover(running.data_dir)

    assert found
    assert (found.database_url, found.redis_url) == (running.database_url, running.redis_url)
    assert found.secret_key == running.secret_key


def test_ephemeral_servers_leave_nothing(gone: Callable[..., None]) -> None:
    services = EmbeddedServices.start(ephemeral=True)
    pids = services.pids

    services.stop()
    services.stop()

    gone(*pids.values())
    assert not services.data_dir.exists()
    assert discover(services.data_dir) is None


def test_a_path_too_long_for_a_socket_gets_a_short_one(place: Path) -> None:
    data = place / ("long-" * 30) / ".hodei"
    with EmbeddedServices.start(data) as services:
        assert query(services.database_url, "SELECT 1") == [(1,)]
        sockets = Path(str(services.database_url).split("host=")[1])
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    (sockets / "x").unlink(missing_ok=True)
    sockets.rmdir()


def test_one_server_alone_can_be_started(place: Path) -> None:
    with EmbeddedServices.start(ephemeral=True, postgres=False) as services:
        assert services.database_url is None
        assert list(services.pids) == ["redis"]


def test_redis_is_ready_when_it_answers_though_postgres_used_up_the_time(running: EmbeddedServices) -> None:
    assert running._redis is not None
    running._redis.wait_ready(time.monotonic() - 1)
