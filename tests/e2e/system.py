"""The system that is looked at: how it is spoken to, and where its database is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras

from e2e.ledger import Off
from hodei.cli.target import find
from hodei.client.client import HodeiClient
from hodei.embedded import connection, state_file

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
NO_DATABASE = (
    "Where is its database? Set HODEI_DATABASE_URL to the one that it uses "
    "(or HODEI_DATA_DIR, when hodei dev has its data in a folder of its own)."
)


@dataclass(frozen=True, kw_only=True)
class System:
    """``env`` is what a person's shell has, with ``HODEI_URL`` and the folder of ``hodei`` in ``PATH``."""

    url: str
    token: str | None = field(default=None, repr=False)
    env: Mapping[str, str] = field(repr=False)

    @classmethod
    def at(cls, url: str, token: str | None, variables: Mapping[str, str]) -> System:
        env = dict(variables) | {"HODEI_URL": url, "PATH": f"{PROGRAMS}:{variables.get('PATH', os.defpath)}"}
        return cls(url=url, token=token, env=env | ({"HODEI_API_TOKEN": token} if token else {}))

    def client(self) -> HodeiClient:
        return HodeiClient(self.url, self.token, timeout_s=15.0)

    def hodei(self, *arguments: str, limit_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """The command line, called without a shell."""
        return self._run([str(PROGRAMS / "hodei"), *arguments], limit_s)

    def typed(self, line: str, limit_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A line, as somebody types it into a shell."""
        return self._run(["bash", "-c", line], limit_s)

    def waiter(self, job_id: str) -> subprocess.Popen[str]:
        """``hodei job wait``, begun."""
        return subprocess.Popen(
            [str(PROGRAMS / "hodei"), "job", "wait", job_id],
            env=dict(self.env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def _run(self, command: list[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=dict(self.env), capture_output=True, text=True, timeout=limit_s, check=False, cwd="/"
        )

    @property
    def database_url(self) -> str:
        """What is configured, else the database of the ``hodei dev`` that runs on the data folder."""
        url = self.env.get("HODEI_DATABASE_URL") or self.env.get("DATABASE_URL")
        if not url:
            folder = self.env.get("HODEI_DATA_DIR")
            found = connection.discover(Path(folder) if folder else None)
            url = found.database_url if found else None
        if not url:
            raise Off(NO_DATABASE)
        return url.replace("postgresql+psycopg2://", "postgresql://", 1)

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What an operator sees with psql."""
        opened = psycopg2.connect(self.database_url, connect_timeout=10)
        opened.autocommit = True
        try:
            with opened.cursor() as cursor:
                psycopg2.extras.register_uuid(conn_or_curs=cursor)
                cursor.execute(statement, parameters or None)
                return cursor.fetchall()
        finally:
            opened.close()

    def deployment(self) -> str:
        """What tells this system from any other."""
        return str(self.sql("SELECT id FROM hodei.deployment")[0][0])


def running(variables: Mapping[str, str]) -> System | None:
    """The system that ``HODEI_URL`` names, else this user's ``hodei dev``; None: there is none to be looked at."""
    if not variables.get("HODEI_URL") and state_file.read() is None:
        return None
    target = find(None, None, variables=variables, noted=state_file.read)
    return System.at(target.url, target.token, variables)
