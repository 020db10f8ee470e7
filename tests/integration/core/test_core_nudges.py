"""Nudging: a saga whose message was lost is looked at again, and no queue that is only long is doubled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
import redis
from support.core import Core
from support.servers import Servers
from support.waiting import until

from hodei.errors import DatabaseUnavailable
from hodei.queue.courier import CeleryCourier
from hodei.services import clock, dispatch, repair


def lose_messages(core: Core) -> None:
    core.courier.kept.clear()


def test_5000_waiting_sagas_get_one_message_each_per_minute(core: Core) -> None:
    # given 5,000 sagas whose messages nobody takes
    core.sql(
        "INSERT INTO sagas (id, saga_type, state, subject_id, correlation_id, actor, nudge_after) "
        "SELECT gen_random_uuid(), 'EXECUTION', 'PENDING', gen_random_uuid(), gen_random_uuid(), 't', clock_timestamp() "
        "FROM generate_series(1, 5000)"
    )
    core.sql(
        "INSERT INTO saga_steps (id, saga_id, step_name, step_order) SELECT gen_random_uuid(), id, step, n "
        "FROM sagas, unnest(ARRAY['ValidateJob', 'AssignWorker', 'ExecuteJob', 'CompleteJob']) WITH ORDINALITY AS s(step, n)"
    )

    # when the clock looks for as long as it finds some
    while repair.nudge_sagas(core.platform):
        pass

    # then
    def messages() -> tuple[int, int]:
        return len(core.courier.kept), len({message[2] for message in core.courier.kept})

    assert messages() == (5000, 5000)

    # and for the rest of that minute there are no more
    soonest = (
        "SELECT extract(epoch FROM min(nudge_after) - clock_timestamp()) AS s, max(nudges) AS most FROM sagas"
    )
    row = core.sql(soonest)[0]
    assert 40 < row.s <= 60
    assert row.most == 1


def test_a_nudged_saga_is_left_alone_for_a_minute_and_then_for_longer(core: Core) -> None:
    # given
    core.provider("here")
    core.submit("here")
    dispatch.look(core.platform)
    core.make_due()
    waits = []

    # when
    for _ in range(7):
        assert repair.nudge_sagas(core.platform) == 1
        assert repair.nudge_sagas(core.platform) == 0
        waits.append(
            core.sql("SELECT extract(epoch FROM nudge_after - clock_timestamp()) AS s FROM sagas")[0].s
        )
        core.make_due()

    # then
    assert [round(float(s) / 60) for s in waits] == [1, 2, 4, 8, 15, 15, 15]


def test_a_saga_that_only_waits_is_looked_at_as_soon_as_any_however_long_it_has_waited(core: Core) -> None:
    # given a saga that was looked at again and again, and each time had to wait
    core.provider("here")
    core.submit("here")
    core.drain()
    for _ in range(6):
        wait_is_over(core)
        assert repair.nudge_sagas(core.platform) == 1
        assert core.drain() > 0
    assert core.sql("SELECT nudges, waiting_until > clock_timestamp() AS waits FROM sagas") == [
        {"nudges": 0, "waits": True}
    ]

    # when the message of the next look is lost
    wait_is_over(core)
    assert repair.nudge_sagas(core.platform) == 1
    lose_messages(core)

    # then the one after it comes within a minute
    [row] = core.sql("SELECT extract(epoch FROM nudge_after - clock_timestamp()) AS s FROM sagas")
    assert row.s <= 60


def wait_is_over(core: Core) -> None:
    core.sql("UPDATE sagas SET waiting_until = clock_timestamp(), nudge_after = clock_timestamp()")


@pytest.mark.parametrize("lost_with", ["the broker", "a controller"])
def test_sagas_go_on_at_once_after_messages_were_lost_for_sure(
    core: Core, monkeypatch: pytest.MonkeyPatch, lost_with: str
) -> None:
    # given a saga that has been nudged often, and one that waits for the world
    core.provider("here")
    waiting = core.submit("here")
    core.drain()
    stuck = core.submit("here")
    dispatch.look(core.platform)
    lose_messages(core)
    core.sql(
        "UPDATE sagas SET nudges = 4, nudge_after = clock_timestamp() + interval '15 min' WHERE waiting_until IS NULL"
    )
    if lost_with == "the broker":
        monkeypatch.setattr(core.courier, "was_emptied", lambda: True)
    else:
        core.sql(
            "INSERT INTO hodei.loops (name, owner, interval_s, progressed_at)"
            " VALUES ('controller:gone', 'gone', 5, clock_timestamp() - interval '13 s'),"
            " ('controller:here', 'here', 5, clock_timestamp() - interval '6 s')"
        )

    # when
    assert repair.notice_lost_messages(core.platform) == 1
    assert repair.nudge_sagas(core.platform) == 1
    messages = list(core.courier.kept)
    core.drain()

    # then
    assert [message[2] for message in messages if message[0] == "run"] == [core.sagas(stuck)[0].id]
    assert core.job(waiting).state == core.job(stuck).state == "SCHEDULED"
    assert core.sql("SELECT 1 FROM hodei.loops WHERE name = 'controller:gone'") == []
    if lost_with == "a controller":
        assert repair.notice_lost_messages(core.platform) == 0, "one that was late once is not dead"


def test_nothing_is_nudged_into_a_broker_that_is_away(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a saga whose message got lost
    core.provider("here")
    core.submit("here")
    dispatch.look(core.platform)
    lose_messages(core)
    core.sql("UPDATE sagas SET nudge_after = clock_timestamp()")

    # when the broker is away for long
    with monkeypatch.context() as away:
        away.setattr(core.courier, "ping", lambda: "The broker cannot be reached.")
        for _ in range(10):
            assert repair.nudge_sagas(core.platform) == 0

    # then nothing is late because of it when it is back
    assert core.sql("SELECT nudges FROM sagas")[0].nudges == 0
    assert repair.nudge_sagas(core.platform) == 1


def test_who_dropped_a_message_says_so_when_the_broker_is_back(
    core: Core, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    courier = CeleryCourier(servers.redis_url, core.database)
    courier.note_not_empty()
    assert courier.ping() is None and not courier.was_emptied()

    def times_out(*_: object, **__: object) -> None:
        raise TimeoutError("timed out")

    # when a message finds it away, and the next one while it is given a rest
    with monkeypatch.context() as away:
        away.setattr(courier.app, "send_task", times_out)
        courier.destroy(uuid4())
        courier.destroy(uuid4())
        courier.close()

    # then it is there again at the first word that comes through, and all is looked at, once
    assert courier.ping() is None
    assert courier.was_emptied()
    courier.note_not_empty()
    assert courier.ping() is None and not courier.was_emptied()


def test_a_broker_that_refuses_messages_is_not_taken_for_one_that_is_back(
    core: Core, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given one without memory left, which answers a ping
    courier = CeleryCourier(servers.redis_url, core.database)
    courier.note_not_empty()

    def is_full(*_: object, **__: object) -> None:
        raise redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'.")

    with monkeypatch.context() as full:
        full.setattr(courier.app, "send_task", is_full)
        courier.destroy(uuid4())
        courier.close()

    # then nothing is hurried until it takes a message again
    assert courier.ping() is None and not courier.was_emptied()
    courier._rest_until = 0.0  # its rest is over
    courier.destroy(uuid4())
    courier.close()
    assert courier.was_emptied()


@pytest.fixture
def ticking(core: Core, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A clock with a loop that turns every five minutes; what it did."""
    monkeypatch.setattr(clock, "RENEW_S", 0.05)
    turned: list[str] = []
    core.sql(
        "INSERT INTO hodei.loops (name, owner, interval_s, lease_expires)"
        " VALUES ('trim', 'another', 300, clock_timestamp() + interval '1 h')"
    )
    running = clock.Clock(
        core.platform, (clock.Loop(name="trim", interval_s=300, run=lambda _: turned.append("trim") or 0),)
    )
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    yield turned
    running.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_a_loop_that_turns_seldom_is_taken_over_as_soon_as_its_clock_is_gone(
    core: Core, ticking: list[str]
) -> None:
    # given a loop that another clock holds
    owner = "SELECT owner, lease_expires - clock_timestamp() < interval '11 s' AS short FROM hodei.loops"
    assert core.sql(owner) == [{"owner": "another", "short": False}]
    assert ticking == []

    # when that one is gone
    core.sql("UPDATE hodei.loops SET lease_expires = clock_timestamp()")

    # then the loop turns under the new one, once, and is held by it without turning again
    until(lambda: ticking, within_s=10, what="the turn")
    [held] = core.sql(owner)
    assert held.owner != "another" and held.short
    expires = "SELECT lease_expires FROM hodei.loops"
    [first] = core.sql(expires)
    until(lambda: core.sql(expires)[0].lease_expires > first.lease_expires, within_s=10, what="the renewal")
    assert ticking == ["trim"]


def test_a_turn_that_the_database_gave_up_on_is_not_begun_again_before_its_time(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a loop that asks too much, which costs the database as much as a statement may
    monkeypatch.setattr(clock, "RENEW_S", 0.05)
    turned: list[str] = []

    def asks_too_much(_: object) -> int:
        turned.append("trim")
        raise DatabaseUnavailable("canceling statement due to statement timeout")

    running = clock.Clock(core.platform, (clock.Loop(name="trim", interval_s=300, run=asks_too_much),))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until(lambda: turned, within_s=10, what="the turn")

    # when its clock goes on to hold it
    expires = "SELECT lease_expires FROM hodei.loops"
    held = core.sql(expires)[0].lease_expires
    until(
        lambda: core.sql(expires)[0].lease_expires - held > timedelta(seconds=0.3),
        within_s=10,
        what="several renewals",
    )

    # then
    running.stop()
    thread.join(10)
    assert turned == ["trim"]


def test_a_clock_whose_loops_hang_stops_soon_all_the_same(core: Core) -> None:
    # given several loops that wait for a provider which does not answer
    free, hanging = threading.Event(), set()

    def hang(name: str) -> int:
        hanging.add(name)
        return int(not free.wait(60))

    loops = tuple(
        clock.Loop(name=name, interval_s=1.0, run=lambda _, name=name: hang(name))
        for name in ("watch", "destroy", "cleanup", "providers")
    )
    running = clock.Clock(core.platform, loops)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until(lambda: len(hanging) == len(loops), within_s=10, what="the loops")

    # when
    running.stop()
    thread.join(2 * clock.STOPS_WITHIN_S)

    # then
    stopped = not thread.is_alive()
    free.set()
    thread.join(10)
    assert stopped
