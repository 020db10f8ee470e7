"""Migrating: an empty schema, an older one, and those that are refused."""

from __future__ import annotations

import multiprocessing
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from psycopg2 import sql
from sqlalchemy import create_engine, text
from support.core_processes import migrate_there
from support.servers import Servers, drop_database, with_driver
from support.waiting import until

from hodei.errors import DatabaseUnavailable, SchemaMismatch
from hodei.storage import migrate

NINE = {
    "jobs", "workers", "provider_configs", "domain_events", "outbox_events", "sagas", "saga_steps",
    "saga_audit_events", "job_log_files",
}  # fmt: skip


def run(url: str, statement: str | sql.Composable) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@pytest.fixture
def empty(servers: Servers) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    name = f"hodei_empty_{secrets.token_hex(6)}"
    run(servers.admin_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield servers.url(name)
    drop_database(servers, name)


def test_an_empty_database_gets_the_nine_tables_and_nothing_more(empty: str) -> None:
    assert migrate.upgrade(with_driver(empty)) is True

    kinds = run(
        empty,
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'v', 'm', 'p', 'f', 'S')",
    )
    assert {(name, kind) for name, kind in kinds} == {(name, "r") for name in NINE}
    assert run(empty, "SELECT extname FROM pg_extension") == [("plpgsql",)]


def test_a_current_database_is_left_alone(empty: str) -> None:
    migrate.upgrade(with_driver(empty))

    assert migrate.upgrade(with_driver(empty)) is False
    assert migrate.check(with_driver(empty)) == "The schema is up to date."


def test_three_processes_that_migrate_at_once_make_one_schema(empty: str) -> None:
    # given
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(3) as pool:
        # when
        answers = pool.map(migrate_there, [with_driver(empty)] * 3, chunksize=1)
        pool.close()
        pool.join()

    # then
    assert sorted(answers) == [False, False, True]
    assert len(run(empty, "SELECT 1 FROM hodei.deployment")) == 1


SMALL = f"""
CREATE SCHEMA hodei;
CREATE TABLE hodei.schema_version (version_num text);
INSERT INTO hodei.schema_version VALUES ('{migrate.revisions()[-1]}');
CREATE TABLE public.jobs (id int);
"""
"""What a migration leaves, as far as its end is looked at: so little that Postgres tells nobody else at once."""


def test_who_waited_for_another_ones_migration_finds_it_done(empty: str) -> None:
    # given somebody who has found nothing and waits for his turn
    engine = create_engine(with_driver(empty))
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with ThreadPoolExecutor(1) as pool, engine.connect() as connection:
        connection.execute(text(f"SELECT pg_advisory_lock({migrate.LOCK_KEY})"))
        other = pool.submit(migrate.upgrade, with_driver(empty))
        until(lambda: run(empty, waiting), what="the other one waiting")

        # when
        connection.execute(text(SMALL))
        connection.commit()
        connection.execute(text(f"SELECT pg_advisory_unlock({migrate.LOCK_KEY})"))

        # then
        assert other.result(60) is False
    engine.dispose()


def test_a_database_that_is_not_up_to_date_says_which_command_helps(empty: str) -> None:
    with pytest.raises(SchemaMismatch, match="hodei db upgrade"):
        migrate.check(with_driver(empty))


def test_somebody_elses_tables_are_refused_and_left_alone(empty: str) -> None:
    run(empty, "CREATE TABLE public.customers (id int)")

    with pytest.raises(SchemaMismatch, match=r"not ours.*\(customers\).*createdb hodei_jobs"):
        migrate.upgrade(with_driver(empty))

    assert run(empty, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("customers",)]
    assert run(empty, "SELECT 1 FROM pg_namespace WHERE nspname = 'hodei'") == []


def test_tables_with_our_names_that_we_did_not_make_are_refused(empty: str) -> None:
    run(empty, "CREATE TABLE public.jobs (id int)")

    with pytest.raises(SchemaMismatch, match="no migration of ours made"):
        migrate.upgrade(with_driver(empty))


def test_a_foreign_table_beside_ours_is_refused(empty: str) -> None:
    migrate.upgrade(with_driver(empty))
    run(empty, "CREATE TABLE public.customers (id int)")

    with pytest.raises(SchemaMismatch, match="customers"):
        migrate.upgrade(with_driver(empty))


def test_a_newer_schema_is_refused_with_the_command_that_helps(empty: str) -> None:
    migrate.upgrade(with_driver(empty))
    run(empty, "UPDATE hodei.schema_version SET version_num = '9999'")

    for look in (migrate.upgrade, migrate.check):
        with pytest.raises(SchemaMismatch, match=r"9999.*newer.*pip install --upgrade hodei-jobs"):
            look(with_driver(empty))


def test_a_server_that_only_reads_is_one_sentence(empty: str) -> None:
    [(name,)] = run(empty, "SELECT current_database()")
    only_reads = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on")
    run(empty, only_reads.format(sql.Identifier(str(name))))

    with pytest.raises(DatabaseUnavailable, match="only reads"):
        migrate.upgrade(with_driver(empty))


def test_no_postgres_is_one_sentence() -> None:
    with pytest.raises(DatabaseUnavailable, match="Check that Postgres runs"):
        migrate.upgrade("postgresql+psycopg2://nobody@127.0.0.1:1/none")
