"""The embedded Postgres: one database `hodei_jobs`, owned by the role `hodei`, on a private Unix socket."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from hodei.embedded.children import POLL_S, end, end_stranger, launch
from hodei.embedded.data_folder import Credentials, DataFolder, write_private
from hodei.embedded.errors import ServerFailed
from hodei.embedded.process_identity import all_working_in, works_in
from hodei.embedded.wheels import Programs

PROGRAM = "postgres"
DATABASE = "hodei_jobs"
ROLE = "hodei"
SUPERUSER = "postgres"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}  # nothing inherited

# A laptop's share: few processes at rest, no TCP, no replication. fsync stays on.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",  # as deploy/compose.yaml has it; a process of the platform holds at most 24
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "autovacuum_worker_slots": "4",
    "max_worker_processes": "4",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NEW_IN_18 = ("io_method", "autovacuum_worker_slots")
THROWN_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}  # for ephemeral data only

SMART, FAST, IMMEDIATE = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT


class PostgresServer:
    """`begin`, then `wait_ready`; between the two something else may start."""

    def __init__(
        self, *, folder: DataFolder, programs: Programs, credentials: Credentials, ephemeral: bool
    ) -> None:
        self.folder = folder
        self.programs = programs
        self.credentials = credentials
        self.ephemeral = ephemeral
        self.data = folder.postgres / "data"
        self.sockets = folder.socket_folder()
        self.process: subprocess.Popen[bytes] | None = None
        self._initdb: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._url(ROLE, self.credentials.database_password, DATABASE)

    def begin(self) -> None:
        """Ends what a killed owner left behind; starts the server, or first the making of its data."""
        self._end_orphan()
        if (self.data / "PG_VERSION").exists():
            self._start()
        else:
            self._begin_initdb()

    def wait_ready(self, deadline: float) -> None:
        """Returns when the role can log in to the database. ServerFailed when that does not come."""
        if self._initdb:
            self._end_initdb(deadline)
            self._start()
        while not self._accepts():
            if not self.alive():
                if not self._predecessor_is_ending():
                    raise self._failed("it ended at once")
                self._start()
            if time.monotonic() > deadline:
                raise self._failed("it took too long")
            time.sleep(POLL_S)
        self._ensure_database()

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, linger_s: float = 0.0) -> None:
        """Ends the server; with `linger_s` its clients get that long to leave by themselves."""
        if self._initdb:
            end(self._initdb, [])
            self._initdb = None
        if self.process:
            end(self.process, [*([(SMART, linger_s)] if linger_s else []), (FAST, 2.0), (IMMEDIATE, 1.0)])

    def _start(self) -> None:
        settings = SETTINGS | (THROWN_AWAY if self.ephemeral else {})
        settings["unix_socket_directories"] = str(self.sockets)
        if self.programs.postgres_home and self.programs.postgres_home.name == "pginstall":
            settings = {name: value for name, value in settings.items() if name not in NEW_IN_18}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.process = self._launch([self.programs.postgres, "-D", str(self.data), *options], FAST)

    def _launch(self, program: list[str], death_signal: signal.Signals) -> subprocess.Popen[bytes]:
        log = self.folder.open_log("postgres")
        try:
            return launch(
                program,
                env=ENVIRONMENT,
                death_signal=death_signal,
                account=self.folder.account,
                cwd=self.folder.root,
                output=log,
            )
        finally:
            os.close(log)

    def _begin_initdb(self) -> None:
        unfinished = self._unfinished()
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self.folder.run / "password"
        write_private(password_file, self.credentials.superuser_password, self.folder.account)
        options = ["-U", SUPERUSER, "--pwfile", str(password_file), "--auth", "scram-sha-256", "-E", "UTF8"]
        options += [
            "--locale",
            "C",
            "--locale-provider",
            "builtin",
            "--builtin-locale",
            "C.UTF-8",
            "--no-instructions",
        ]
        options += ["--no-sync"] if self.ephemeral else []
        self._initdb = self._launch([self.programs.initdb, "-D", str(unfinished), *options], signal.SIGKILL)

    def _end_initdb(self, deadline: float) -> None:
        """Half-made data never bears the final name."""
        assert self._initdb
        try:
            code = self._initdb.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._failed("initdb took too long") from None
        finally:
            (self.folder.run / "password").unlink(missing_ok=True)
        if code != 0:
            raise self._failed(f"initdb ended with {code}")
        self._unfinished().rename(self.data)
        self._initdb = None

    def _unfinished(self) -> Path:
        return self.folder.postgres / "unfinished"

    def _end_orphan(self) -> None:
        """Postgres deals with its stale pid file, except when another process has that pid by now.

        The file is what keeps a new server from data that processes of the old one still use, so it is
        removed only in that case, and only when nobody works there.
        """
        pid = self._noted_pid()
        if pid is None:
            return
        if works_in(pid, PROGRAM, self.data):
            end_stranger(pid, [(FAST, 5.0), (IMMEDIATE, 2.0)])
        for left_over in all_working_in(PROGRAM, self.data):
            end_stranger(left_over, [(IMMEDIATE, 2.0)])
        if _is_taken(pid):
            for stale in (self.data / "postmaster.pid", *self.sockets.glob(".s.PGSQL.*.lock")):
                stale.unlink(missing_ok=True)

    def _predecessor_is_ending(self) -> bool:
        """The processes of a killed server need a moment to notice."""
        time.sleep(0.1)
        return b"pre-existing shared memory block" in self.folder.log_path("postgres").read_bytes()[-500:]

    def _noted_pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def _accepts(self) -> bool:
        """The server writes its status in the last line of its pid file; that costs no failed log-in."""
        if not self.alive() or self._noted_pid() != (self.process and self.process.pid):
            return False
        with contextlib.suppress(OSError):
            return (self.data / "postmaster.pid").read_text().rstrip().endswith("ready")
        return False

    def _ensure_database(self) -> None:
        import psycopg2
        from psycopg2 import sql

        admin = psycopg2.connect(self._url(SUPERUSER, self.credentials.superuser_password, "postgres"))
        try:
            admin.autocommit = True
            with admin.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,))
                if not cursor.fetchone():
                    create = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
                    password = sql.Literal(self.credentials.database_password)
                    cursor.execute(create.format(sql.Identifier(ROLE), password))
                    # the role and the internal schema have one name: unqualified names mean public all the same
                    path = sql.SQL("ALTER ROLE {} SET search_path TO public").format(sql.Identifier(ROLE))
                    cursor.execute(path)
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if not cursor.fetchone():
                    own = sql.SQL("CREATE DATABASE {} OWNER {}")
                    cursor.execute(own.format(sql.Identifier(DATABASE), sql.Identifier(ROLE)))
        finally:
            admin.close()

    def _url(self, role: str, password: str, database: str) -> str:
        return f"postgresql://{role}:{password}@/{database}?host={quote(str(self.sockets))}"

    def _failed(self, reason: str) -> ServerFailed:
        return ServerFailed("Postgres", reason, self.folder.log_path("postgres"))


def _is_taken(pid: int) -> bool:
    """As Postgres sees it: also by a zombie, which is what a killed server stays where pid 1 reaps nobody."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, 0)
        return True
    return False
