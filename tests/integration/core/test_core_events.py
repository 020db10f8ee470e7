"""The order of events is the database's, whatever clocks and processes wrote them."""

from __future__ import annotations

import multiprocessing

from support.core import Core, fresh_id
from support.core_processes import write_audits, write_events
from support.core_saga import DrillGround

PER_PROCESS = 5000


def test_10000_events_of_two_controllers_with_clocks_apart_are_in_their_order(
    core: Core, database_url: str
) -> None:
    # given aggregates that two processes write to in turns, whose clocks are two minutes apart
    jobs = [core.submit() for _ in range(8)]
    core.sql("CREATE TABLE hodei.committed (n bigserial, aggregate_id uuid, event text)")
    spawn = multiprocessing.get_context("spawn")
    writers = [
        spawn.Process(target=write_events, args=(database_url, jobs, PER_PROCESS, shift, name))
        for shift, name in ((-60.0, "behind"), (60.0, "ahead"))
    ]

    # when
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    # then
    assert [writer.exitcode for writer in writers] == [0, 0]
    for job_id in jobs:
        written = core.sql("SELECT event FROM hodei.committed WHERE aggregate_id = :id ORDER BY n", id=job_id)
        shown = core.sql(
            "SELECT payload ->> 'event' AS event, occurred_at FROM domain_events"
            " WHERE aggregate_id = :id AND event_type = 'Tested' ORDER BY occurred_at",
            id=job_id,
        )
        assert [row.event for row in shown] == [row.event for row in written]
        assert len({row.occurred_at for row in shown}) == len(shown)
    total = core.sql("SELECT count(*) AS n FROM domain_events WHERE event_type = 'Tested'")[0].n
    outbox = core.sql("SELECT count(*) AS n FROM outbox_events WHERE event_type = 'Tested'")[0].n
    turns = core.sql(
        "SELECT count(*) AS n FROM (SELECT split_part(event, ' ', 1) AS w, lag(split_part(event, ' ', 1)) "
        "OVER (PARTITION BY aggregate_id ORDER BY n) AS before FROM hodei.committed) AS t WHERE w <> before"
    )[0].n
    assert (total, outbox) == (2 * PER_PROCESS, 2 * PER_PROCESS)
    assert turns > 100, "the two did not take turns, so nothing was shown"


def test_the_audits_of_one_saga_are_in_their_order_too(core: Core, database_url: str) -> None:
    # given
    drill = DrillGround(core)
    drill.start()
    core.sql("CREATE TABLE hodei.committed (n bigserial, aggregate_id uuid, event text)")
    spawn = multiprocessing.get_context("spawn")
    writers = [
        spawn.Process(target=write_audits, args=(database_url, drill.saga_id, 400, shift, name))
        for shift, name in ((-60.0, "behind"), (60.0, "ahead"))
    ]

    # when
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    # then
    assert [writer.exitcode for writer in writers] == [0, 0]
    written = core.sql("SELECT event FROM hodei.committed ORDER BY n")
    shown = core.sql("SELECT message FROM saga_audit_events WHERE event_type = 'Tested' ORDER BY occurred_at")
    assert [row.message for row in shown] == [row.event for row in written]
    assert len(shown) == 2 * 2 * 400


def test_an_event_of_a_rolled_back_change_is_not_there(core: Core) -> None:
    job_id = core.submit()
    try:
        with core.database.begin() as tx:
            tx.record("job", job_id, "Tested", {}, actor="test")
            raise RuntimeError
    except RuntimeError:
        pass

    assert core.events(job_id) == ["JobCreated"]
    assert len(core.sql("SELECT 1 FROM outbox_events")) == 1


def test_an_event_in_the_same_microsecond_is_later(core: Core) -> None:
    job_id, future = core.submit(), "clock_timestamp() + interval '1 h'"
    core.sql(f"UPDATE jobs SET last_event_at = {future} WHERE id = :id", id=job_id)

    with core.database.begin() as tx:
        times = [tx.record("job", job_id, "Tested", {}, actor="test") for _ in range(3)]

    assert times == sorted(set(times))


def test_an_event_of_nothing_is_not_written(core: Core) -> None:
    with core.database.begin() as tx:
        assert tx.record("job", fresh_id(), "Tested", {}, actor="test") is None

    assert core.sql("SELECT 1 FROM domain_events") == []
