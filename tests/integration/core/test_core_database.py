"""The database as use cases see it: what a refused query and a cut connection come out as."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError
from support.core import Core

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


def test_a_row_that_breaks_a_rule_of_the_schema_is_no_outage(core: Core) -> None:
    with pytest.raises(IntegrityError), core.platform.database.begin() as tx:
        tx.execute("secret_insert", owner_id=uuid4(), name=None, ciphertext=b"1")


def test_an_answer_without_rows_is_none(core: Core) -> None:
    with core.platform.database.glance() as tx:
        assert tx.row("read_job_state", id=uuid4()) is None
        assert tx.scalar("read_job_state", id=uuid4()) is None
        assert tx.rows("read_job_state", id=uuid4()) == []
