"""What nobody needs any more is forgotten, however much of it there is, and one kind whatever becomes of another."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from support.core import Core

from hodei.services import repair
from hodei.storage.queries import query

EVENTS = """INSERT INTO outbox_events (id, aggregate_type, aggregate_id, event_type, idempotency_key, status, published_at)
            SELECT gen_random_uuid(), 'job', gen_random_uuid(), 'Tested', gen_random_uuid(), 'PUBLISHED',
                   clock_timestamp() - make_interval(days => :days) FROM generate_series(1, :n)"""
KEYS = """INSERT INTO hodei.idempotency_keys (scope, key, body_hash, created_at)
          SELECT 't', gen_random_uuid(), '', clock_timestamp() - make_interval(days => :days) FROM generate_series(1, :n)"""
LOOP = """INSERT INTO hodei.loops (name, interval_s, progressed_at) VALUES ('gone', 1, clock_timestamp() - interval '1 h')"""
REFUSE = """CREATE FUNCTION hodei.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
            CREATE TRIGGER refuse BEFORE DELETE ON outbox_events FOR EACH STATEMENT EXECUTE FUNCTION hodei.refuse()"""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "TRIMMED_AT_ONCE", 10)


def left(core: Core) -> tuple[int, int, int]:
    """Events, keys, loops."""
    counts = core.sql(
        "SELECT (SELECT count(*) FROM outbox_events) AS outbox, (SELECT count(*) FROM hodei.idempotency_keys) AS answers,"
        " (SELECT count(*) FROM hodei.loops) AS loops"
    )[0]
    return counts.outbox, counts.answers, counts.loops


def fill(core: Core) -> None:
    """More than one batch of what is old, and some that is not."""
    for statement in (EVENTS, KEYS):
        core.sql(statement, days=8, n=35)
        core.sql(statement, days=0, n=3)
    core.sql(LOOP)


def test_one_turn_forgets_all_that_is_old_and_nothing_else(core: Core) -> None:
    fill(core)

    assert repair.trim(core.platform) == 35 + 35 + 1
    assert left(core) == (3, 3, 0)
    assert repair.trim(core.platform) == 0


def test_a_turn_that_took_long_enough_forgets_a_batch_of_each(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(core)
    monkeypatch.setattr(repair, "TRIMS_FOR_S", 0.0)

    assert repair.trim(core.platform) == 10 + 10 + 1


def test_one_kind_that_cannot_be_trimmed_keeps_no_other(core: Core) -> None:
    fill(core)
    core.sql(REFUSE)

    with pytest.raises(DBAPIError, match="refused"):
        repair.trim(core.platform)

    assert left(core) == (38, 3, 0)


@pytest.mark.parametrize(
    ("trim", "index"),
    [
        ("outbox_trim", "outbox_events_published"),
        ("keys_trim", "idempotency_keys_by_age"),
        ("schedule_firings_trim", "schedule_firings_by_age"),
    ],
)
def test_what_is_old_is_found_without_a_look_at_what_is_not(core: Core, trim: str, index: str) -> None:
    with core.database.engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"))
        plan = connection.execute(
            text(f"EXPLAIN (FORMAT JSON) {query(trim).text}"), {"limit": 5000}
        ).scalar_one()

    read = {
        node.get("Index Name", node["Node Type"]): node.get("Index Cond") for node in nodes(plan[0]["Plan"])
    }
    assert read.keys() == {"ModifyTable", "Tid Scan", "Limit", index}
    assert "now()" in read[index]


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """All of the plan, from the top."""
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]
