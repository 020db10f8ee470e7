"""Starts and stops the embedded Postgres and Redis together."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from hodei.embedded import connection, runtime, wheels
from hodei.embedded.account import server_account
from hodei.embedded.connection import Urls
from hodei.embedded.data_folder import ROOT_HOME, DataFolder, default_data_dir, temporary_root
from hodei.embedded.postgres import PostgresServer
from hodei.embedded.redis import RedisServer

START_TIMEOUT_S = 60.0  # after a crash Postgres replays its log first


class EmbeddedServices:
    """Running servers. `with EmbeddedServices.start() as running:` stops them at the end.

    `database_url` and `redis_url` are None for a server that was not asked for. The servers end with this
    process, however it dies; start from the main thread, because the kernel ties them to the starting thread.
    """

    def __init__(
        self,
        folder: DataFolder,
        postgres: PostgresServer | None,
        redis: RedisServer | None,
        *,
        ephemeral: bool,
    ) -> None:
        self._folder = folder
        self._postgres = postgres
        self._redis = redis
        self._ephemeral = ephemeral
        self._guard = threading.Lock()
        self._stopped = False

    @classmethod
    def start(
        cls,
        data_dir: Path | None = None,
        *,
        ephemeral: bool = False,
        postgres: bool = True,
        redis: bool = True,
    ) -> EmbeddedServices:
        """Starts both, or the ones asked for, and returns when they accept log-ins.

        Without `data_dir` data is kept in `default_data_dir()`. With `ephemeral` it is in a new temporary
        folder that `stop` removes, and nothing is synced to disk. Raises EmbeddedError.
        """
        account = server_account(ROOT_HOME)
        root = temporary_root(account) if ephemeral else (data_dir or default_data_dir())
        folder = DataFolder.prepare(root, account)
        folder.lock()
        services = cls(folder, None, None, ephemeral=ephemeral)
        try:
            services._start(postgres=postgres, redis=redis)
        except BaseException:
            services.stop()
            raise
        return services

    @property
    def data_dir(self) -> Path:
        return self._folder.root

    @property
    def database_url(self) -> str | None:
        return self._postgres.url if self._postgres else None

    @property
    def redis_url(self) -> str | None:
        return self._redis.url if self._redis else None

    @property
    def secret_key(self) -> str:
        return self._folder.secret_key()

    @property
    def pids(self) -> dict[str, int]:
        """The servers' process ids by name."""
        servers = {"postgres": self._postgres, "redis": self._redis}
        return {name: server.process.pid for name, server in servers.items() if server and server.process}

    def revive(self) -> list[str]:
        """Starts again what died, under the same URL where possible; gives the names of what it started."""
        with self._guard:
            dead = [server for server in (self._postgres, self._redis) if server and not server.alive()]
            if self._stopped or not dead:
                return []
            deadline = time.monotonic() + START_TIMEOUT_S
            for server in dead:
                server.begin()
                server.wait_ready(deadline)
            self._write_connection()
            return ["Postgres" if server is self._postgres else "Redis" for server in dead]

    def stop(self, *, linger_s: float = 0.0) -> None:
        """Stops both within about `linger_s` + 4 s; ephemeral data is removed. May be called twice.

        With `linger_s`, Postgres takes no new clients and gives those it has that long to leave.
        """
        with self._guard:
            if self._stopped:
                return
            self._stopped = True
            connection.remove(self._folder.connection_file)
            if self._postgres:
                self._postgres.stop(linger_s)
            if self._redis:
                self._redis.stop()
            if self._ephemeral:
                self._folder.remove()
            self._folder.release()

    def __enter__(self) -> EmbeddedServices:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, *, postgres: bool, redis: bool) -> None:
        folder = self._folder
        found = wheels.installed(wheels.data_major(folder.postgres / "data"))
        store = ROOT_HOME if folder.account else folder.root
        programs = runtime.programs_for(folder.account, found, store / "runtime")
        parts: dict[str, Any] = {
            "folder": folder,
            "programs": programs,
            "credentials": folder.credentials(),
            "ephemeral": self._ephemeral,
        }
        deadline = time.monotonic() + START_TIMEOUT_S
        if postgres:
            self._postgres = PostgresServer(**parts)
            self._postgres.begin()
        if redis:
            self._redis = RedisServer(**parts)
            self._redis.begin()
        for server in (self._postgres, self._redis):
            if server:
                server.wait_ready(deadline)
        self._write_connection()

    def _write_connection(self) -> None:
        urls = Urls(database_url=self.database_url, redis_url=self.redis_url, secret_key=self.secret_key)
        connection.write(self._folder.connection_file, urls, pids=[os.getpid(), *self.pids.values()])
