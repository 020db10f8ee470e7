"""Postgres and Redis for the tests: the embedded ones, or Debian's with ``HODEI_TEST_SERVERS=system``."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import psycopg2.errors
from psycopg2 import sql

from hodei.embedded.account import server_account
from hodei.embedded.data_folder import ROOT_HOME, temporary_root
from hodei.embedded.ports import free_port
from hodei.embedded.services import EmbeddedServices
from hodei.storage import migrate
from support.waiting import until

TEMPLATE = "hodei_template"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where they are. ``admin_url`` is a database from which others are made."""

    kind: str
    admin_url: str
    redis_url: str

    def url(self, database: str) -> str:
        parts = urlsplit(self.admin_url)
        return urlunsplit(parts._replace(path=f"/{database}"))


@contextlib.contextmanager
def start_servers(kind: str, *, durable: bool = False) -> Iterator[Servers]:
    """Servers of their own, with the migrated template; gone afterwards. ``durable``: what is committed is synced to disk."""
    starter = {"embedded": _embedded, "system": _system}[kind]
    with starter(durable=durable) as servers:
        _execute(servers.admin_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        migrate.upgrade(with_driver(servers.url(TEMPLATE)))
        yield servers


@contextlib.contextmanager
def _embedded(*, durable: bool) -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        place = None
        if durable:
            place = temporary_root(server_account(ROOT_HOME))
            stack.callback(shutil.rmtree, place, ignore_errors=True)
        running = stack.enter_context(EmbeddedServices.start(place, ephemeral=not durable))
        assert running.database_url and running.redis_url
        yield Servers(kind="embedded", admin_url=running.database_url, redis_url=running.redis_url)


@contextlib.contextmanager
def _system(*, durable: bool) -> Iterator[Servers]:
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    redis = shutil.which("redis-server")
    if programs is None or redis is None:
        raise RuntimeError("HODEI_TEST_SERVERS=system needs Debian's postgresql and redis-server.")
    account = (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    )
    with tempfile.TemporaryDirectory(prefix="hodei-system-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        data = folder / "postgres"
        data.mkdir()
        if account:
            shutil.chown(data, "postgres", "postgres")
        port, redis_port = free_port(), free_port()
        initdb = [
            *account,
            str(programs / "initdb"),
            "-D",
            str(data),
            "-A",
            "trust",
            "-U",
            "hodei",
            "--no-sync",
        ]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/")
        postgres = [*account, str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", ""]
        postgres += [] if durable else ["-F"]
        postgres += ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]
        stack.enter_context(_process(postgres))
        stack.enter_context(
            _process([redis, "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"])
        )
        url = f"postgresql://hodei@127.0.0.1:{port}/postgres"
        until(lambda: _answers(url), within_s=20, what="Postgres")
        yield Servers(kind="system", admin_url=url, redis_url=f"redis://127.0.0.1:{redis_port}/0")


@contextlib.contextmanager
def _process(argv: list[str]) -> Iterator[None]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def _execute(url: str, *statements: sql.Composable) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


@contextlib.contextmanager
def fresh_database(servers: Servers) -> Iterator[str]:
    """The URL of a migrated database, a deployment of its own; dropped afterwards."""
    name = f"hodei_{secrets.token_hex(6)}"
    _execute(
        servers.admin_url,
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE)),
    )
    _execute(servers.url(name), sql.SQL("UPDATE hodei.deployment SET id = gen_random_uuid()"))
    try:
        yield with_driver(servers.url(name))
    finally:
        drop_database(servers, name)


def drop_database(servers: Servers, name: str) -> None:
    """Drop it with its connections; waits for autovacuum, which an owner without more rights cannot send away."""

    def dropped() -> bool:
        try:
            _execute(servers.admin_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        except psycopg2.errors.InsufficientPrivilege:
            return False
        return True

    until(dropped, within_s=30, what=f"the end of {name}")


def with_driver(url: str) -> str:
    """The URL as SQLAlchemy wants it."""
    return "postgresql+psycopg2://" + url.partition("://")[2]
