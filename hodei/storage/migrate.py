"""Bringing the schema up to date: at every start, under an advisory lock, and never over somebody else's tables."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from hodei.errors import SchemaMismatch
from hodei.storage.database import CONNECT_TIMEOUT_S, is_outage, unavailable

if TYPE_CHECKING:
    from alembic.config import Config

LOCK_KEY = 0x686F646569  # "hodei"
MINIMUM_SERVER = 150000
TABLES = frozenset(
    {
        "jobs", "workers", "provider_configs", "domain_events", "outbox_events",
        "sagas", "saga_steps", "saga_audit_events", "job_log_files",
    }
)  # fmt: skip


def scripts_folder() -> Path:
    """Where the migrations are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def revisions() -> list[str]:
    """All revisions, oldest first: the files' names start with them.

    Alembic itself, slow to import, is needed only to migrate.
    """
    return sorted(file.name.partition("_")[0] for file in (scripts_folder() / "versions").glob("[0-9]*.py"))


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(url: str) -> bool:
    """Migrate an empty or older schema; return whether anything was done.

    Any number of processes may call it at once. Raises SchemaMismatch for a newer or a foreign schema,
    DatabaseUnavailable when Postgres is away, or does not let us write.
    """
    engine = create_engine(url, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    try:
        with engine.connect() as connection:
            with suppress(SchemaMismatch):  # what is seen without the lock may be half of a migration
                if _state(connection) == "current":
                    return False
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
            connection.commit()  # a transaction goes on believing that what it looked for in vain is not there
            try:
                return _upgrade_locked(connection)
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})
                connection.commit()
    except DBAPIError as error:
        if is_outage(error):
            raise unavailable(error) from error
        raise
    finally:
        engine.dispose()


def _upgrade_locked(connection: Connection) -> bool:
    from alembic import command

    if _state(connection) == "current":
        return False
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS hodei"))
    command.upgrade(_config(connection), "head")
    connection.commit()
    missing = TABLES - set(_tables(connection))
    if missing:
        raise SchemaMismatch(
            f"The migration ended, and these tables are missing: {', '.join(sorted(missing))}."
        )
    return True


def check(url: str) -> str:
    """A sentence about the schema. Raises SchemaMismatch when a server could not start on it."""
    engine = create_engine(url, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    try:
        with engine.connect() as connection:
            state = _state(connection)
    except DBAPIError as error:
        if is_outage(error):
            raise unavailable(error) from error
        raise
    finally:
        engine.dispose()
    if state == "current":
        return "The schema is up to date."
    raise SchemaMismatch("The schema is not up to date. Migrate it with: hodei db upgrade")


def _tables(connection: Connection) -> list[str]:
    found = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
    return [row[0] for row in found]


def _current(connection: Connection) -> str | None:
    if connection.execute(text("SELECT to_regclass('hodei.schema_version')")).scalar_one() is None:
        return None
    return connection.execute(text("SELECT version_num FROM hodei.schema_version")).scalar()


def _state(connection: Connection) -> str:
    """``current``, ``older`` or ``empty``; anything else is refused."""
    version = connection.execute(text("SHOW server_version_num")).scalar_one()
    if int(version) < MINIMUM_SERVER:
        raise SchemaMismatch(
            f"Postgres 15 or later is needed; this server is {int(version) // 10000}. Upgrade it."
        )
    known = revisions()
    current = _current(connection)
    foreign = sorted(set(_tables(connection)) - TABLES)
    if foreign:
        raise SchemaMismatch(
            f"The database holds tables that are not ours in its schema public ({', '.join(foreign[:3])}). "
            "Create one for Hodei Jobs alone: createdb hodei_jobs, and name it in HODEI_DATABASE_URL."
        )
    if current is None:
        if _tables(connection):
            raise SchemaMismatch(
                "The database holds tables with our names that no migration of ours made. "
                "Create an empty one: createdb hodei_jobs, and name it in HODEI_DATABASE_URL."
            )
        return "empty"
    if current == known[-1]:
        return "current"
    if current not in known:
        raise SchemaMismatch(
            f"The database's schema ({current}) is newer than this version of Hodei Jobs. "
            "Upgrade the program: pip install --upgrade hodei-jobs"
        )
    return "older"
