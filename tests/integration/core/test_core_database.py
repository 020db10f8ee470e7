"""The database as use cases see it: what a refused query and a cut connection come out as."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError, InternalError
from support.core import Core

from hodei.api.app import create_app
from hodei.errors import DatabaseUnavailable
from hodei.storage.database import Database

CUT = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()"""


def test_connections_that_were_cut_cost_one_call_and_not_one_each(core: Core, database_url: str) -> None:
    # given a pool with several connections, all of which are cut
    database = core.platform.database
    with database.begin() as one, database.begin() as two, database.begin() as three:
        for tx in (one, two, three):
            tx.scalar("now")
    connection = psycopg2.connect(database_url.replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute(CUT)
    connection.close()

    # when the first of them is used
    with pytest.raises(DatabaseUnavailable), database.begin() as tx:
        tx.scalar("now")

    # then the others are not
    for _ in range(5):
        with database.begin() as tx:
            assert tx.scalar("now") is not None


@pytest.fixture
def limited_url(core: Core, database_url: str) -> Iterator[str]:
    """The database's, for somebody to whom limits apply: for no superuser."""
    if core.sql("SHOW is_superuser")[0].is_superuser == "off":
        yield database_url
        return
    core.sql("CREATE ROLE limited LOGIN")
    yield make_url(database_url).set(username="limited").render_as_string(hide_password=False)
    core.sql("DROP ROLE limited")


def test_a_database_without_a_connection_left_says_so_and_what_to_do(core: Core, limited_url: str) -> None:
    # given
    core.sql(f'ALTER DATABASE "{make_url(limited_url).database}" CONNECTION LIMIT 1')
    another = Database(limited_url)

    # when
    with pytest.raises(DatabaseUnavailable) as refused, core.platform.database.begin():
        another.ping()

    # then
    another.close()
    assert "no connection left" in refused.value.message and "max_connections" in refused.value.message


OnlyReads = Callable[[bool], None]


@pytest.fixture
def only_reads(core: Core, database_url: str) -> OnlyReads:
    """Has connections that are opened from now on only read, or write again."""

    def switch(on: bool) -> None:
        name, value = make_url(database_url).database, "on" if on else "off"
        connection = psycopg2.connect(
            database_url.replace("+psycopg2", ""), options="-c default_transaction_read_only=off"
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
        connection.close()

    return switch


def release(database: Database) -> None:
    """A write of a single statement."""
    with database.glance() as tx:
        tx.execute("loop_release", name="no such loop", owner="nobody")


def record(database: Database) -> None:
    """A write in a transaction."""
    with database.begin() as tx:
        tx.record("job", uuid4(), "Tested", {}, actor="test")


def test_a_submit_to_a_database_that_only_reads_is_refused_with_what_helps(
    core: Core, only_reads: OnlyReads
) -> None:
    # given a platform whose connections lead to a server that only reads
    client = create_app(core.platform, "orchestrator").test_client()
    only_reads(True)
    core.database.close()

    # when
    refused = client.post("/api/v1/jobs", json={"name": "t", "command": "true"})
    told = client.get("/health").json

    # then
    assert (refused.status_code, refused.json["code"]) == (503, "database_unavailable")
    assert "only reads" in refused.json["detail"] and "lead to the primary" in refused.json["detail"]
    assert not told["checks"]["database"]["ok"] and "only reads" in told["checks"]["database"]["message"]

    # and all goes on when it writes again
    only_reads(False)
    assert client.post("/api/v1/jobs", json={"name": "t", "command": "true"}).status_code == 201
    assert client.get("/health").json["checks"]["database"] == {"ok": True, "message": "Postgres answers."}


@pytest.mark.parametrize("write", [release, record])
def test_one_refused_write_lets_go_of_all_connections_that_only_read(
    core: Core, only_reads: OnlyReads, write: Callable[[Database], None]
) -> None:
    # given several of both kinds
    database = core.database
    only_reads(True)
    database.close()
    with (
        database.glance() as one,
        database.glance() as two,
        database.begin() as three,
        database.begin() as four,
    ):
        assert all(tx.scalar("only_reads") for tx in (one, two, three, four))
    only_reads(False)

    # when
    with pytest.raises(DatabaseUnavailable, match="only reads"):
        write(database)

    # then
    with (
        database.glance() as one,
        database.glance() as two,
        database.begin() as three,
        database.begin() as four,
    ):
        assert not any(tx.scalar("only_reads") for tx in (one, two, three, four))


def raise_as(sqlstate: str) -> str:
    return f"DO $$ BEGIN RAISE 'invalid page in block 7' USING ERRCODE = '{sqlstate}'; END $$"


def test_a_damaged_page_is_an_outage_and_a_fault_of_our_own_is_none(core: Core) -> None:
    with pytest.raises(DatabaseUnavailable, match="invalid page in block 7"), core.database.begin() as tx:
        tx.connection.execute(text(raise_as("XX001")))

    with pytest.raises(InternalError), core.database.begin() as tx:
        tx.connection.execute(text(raise_as("25P02")))


def test_a_row_that_breaks_a_rule_of_the_schema_is_no_outage(core: Core) -> None:
    with pytest.raises(IntegrityError), core.platform.database.begin() as tx:
        tx.execute("secret_insert", owner_id=uuid4(), name=None, ciphertext=b"1")


def test_an_answer_without_rows_is_none(core: Core) -> None:
    with core.platform.database.glance() as tx:
        assert tx.row("read_job_state", id=uuid4()) is None
        assert tx.scalar("read_job_state", id=uuid4()) is None
        assert tx.rows("read_job_state", id=uuid4()) == []
