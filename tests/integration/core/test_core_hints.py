"""The outbox's relay and the wake-ups, on a real Redis and without one."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis
from support.core import Core
from support.core_processes import wake_there
from support.servers import Servers
from support.waiting import until

from hodei.queue import fanout
from hodei.queue.courier import CeleryCourier
from hodei.queue.fanout import RedisWakeups
from hodei.queue.names import key_prefix
from hodei.services.relay import relay

NOWHERE = "redis://127.0.0.1:1/0"


def statuses(core: Core) -> list[str]:
    return [row.status for row in core.sql("SELECT status FROM outbox_events ORDER BY created_at")]


def test_events_reach_the_broker_and_are_marked(core: Core, servers: Servers) -> None:
    # given
    courier = CeleryCourier(servers.redis_url, core.database)
    client = redis.Redis.from_url(servers.redis_url)
    with client.pubsub(ignore_subscribe_messages=True) as ear:
        ear.subscribe(f"{key_prefix(core.database.deployment)}events")
        ear.get_message(timeout=5)
        job_id = core.submit()

        # when
        courier.relay()

        # then
        message = until(lambda: ear.get_message(timeout=0.2), what="the event")
        heard = json.loads(message["data"])
        assert (heard["event_type"], heard["aggregate_id"]) == ("JobCreated", str(job_id))
    until(lambda: statuses(core) == ["PUBLISHED"], what="the mark")
    courier.close()
    client.close()


def test_events_stay_pending_while_the_broker_is_away_and_that_is_no_failed_try(core: Core) -> None:
    courier = CeleryCourier(NOWHERE, core.database)
    core.submit()

    assert courier.relay_now(older_than_s=0.0) == 0

    rows = core.sql("SELECT status, retry_count, last_error FROM outbox_events")
    assert rows == [{"status": "PENDING", "retry_count": 0, "last_error": None}]


def test_a_crash_between_handing_over_and_marking_hands_over_again(core: Core) -> None:
    # given
    core.submit()
    heard: list[str] = []

    def and_die(documents: Sequence[str]) -> None:
        heard.extend(documents)
        raise SystemError("killed")

    # when
    with pytest.raises(SystemError):
        relay(core.database, and_die)
    assert relay(core.database, heard.extend) == 1
    assert relay(core.database, heard.extend) == 0

    # then
    assert len(heard) == 2
    assert heard[0] == heard[1]


def test_two_relays_at_once_hand_each_event_over_once(core: Core) -> None:
    # given
    for _ in range(30):
        core.submit()
    heard: list[str] = []
    both = threading.Barrier(2, timeout=10)
    first = True

    def slowly(documents: Sequence[str]) -> None:
        nonlocal first
        heard.extend(documents)
        if first:
            first = False
            both.wait()
            both.wait()

    # when the second relays while the first holds all rows
    one = threading.Thread(target=relay, args=(core.database, slowly))
    one.start()
    both.wait()
    assert relay(core.database, heard.extend) == 0
    both.wait()
    one.join(10)

    # then
    assert len(heard) == len(set(heard)) == 30
    assert set(statuses(core)) == {"PUBLISHED"}


def wakeups(url: str, channel: str, facts: set[str] | None = None) -> RedisWakeups:
    return RedisWakeups(url, channel, lambda keys: (facts or set()) & set(keys))


@pytest.fixture
def channel(core: Core) -> str:
    return f"{key_prefix(core.database.deployment)}wake"


@pytest.fixture
def opened() -> Iterator[list[RedisWakeups]]:
    made: list[RedisWakeups] = []
    yield made
    for each in made:
        each.close()


def waiting(each: RedisWakeups, key: str, timeout_s: float) -> tuple[threading.Thread, dict[str, Any]]:
    answer: dict[str, Any] = {}
    listening = threading.Event()

    def wait() -> None:
        with each.listen(key) as ear:
            listening.set()
            began = time.monotonic()
            answer["woken"] = ear.wait(timeout_s)
            answer["s"] = time.monotonic() - began

    thread = threading.Thread(target=wait)
    thread.start()
    listening.wait(5)
    return thread, answer


def test_a_wake_up_reaches_a_waiter_in_another_process(
    core: Core, servers: Servers, channel: str, opened: list[RedisWakeups]
) -> None:
    # given
    here = wakeups(servers.redis_url, channel)
    opened.append(here)
    thread, answer = waiting(here, "job:1", 20)
    until(here._connected.is_set, what="the subscription")
    client = redis.Redis.from_url(servers.redis_url)
    until(lambda: client.pubsub_numsub(channel)[0][1] == 1, what="the subscriber")
    client.close()

    # when
    other = multiprocessing.get_context("spawn").Process(
        target=wake_there, args=(servers.redis_url, channel, "job:1")
    )
    other.start()
    thread.join(20)
    other.join(10)

    # then
    assert answer["woken"] is True


def test_without_redis_a_waiter_finds_its_fact_by_the_sweep(channel: str, opened: list[RedisWakeups]) -> None:
    # given
    facts: set[str] = set()
    here = wakeups(NOWHERE, channel, facts)
    here._sweep = lambda keys: facts & set(keys)
    opened.append(here)
    thread, answer = waiting(here, "job:1", 20)

    # when
    facts.add("job:1")
    thread.join(20)

    # then
    assert answer["woken"] is True
    assert answer["s"] < fanout.SWEEP_S


def test_without_redis_waking_does_not_block_and_reaches_this_process(
    channel: str, opened: list[RedisWakeups]
) -> None:
    here = wakeups(NOWHERE, channel)
    opened.append(here)
    thread, answer = waiting(here, "job:1", 20)

    began = time.monotonic()
    for number in range(200):
        here.wake(f"job:{number}")
    spent_s = time.monotonic() - began
    thread.join(5)

    assert spent_s < 10  # a broker that is waited for costs seconds each time
    assert answer["woken"] is True


def test_closing_wakes_everybody(servers: Servers, channel: str) -> None:
    here = wakeups(servers.redis_url, channel)
    waiters = [waiting(here, f"job:{number}", 30) for number in range(3)]

    here.close()

    for thread, _ in waiters:
        thread.join(5)
        assert not thread.is_alive()
    assert here.closing
    assert here.wait("job:9", 30) is True


def test_a_wake_up_between_listening_and_waiting_is_not_missed(
    channel: str, opened: list[RedisWakeups]
) -> None:
    here = wakeups(NOWHERE, channel)
    opened.append(here)

    with here.listen("job:1") as ear:
        here.wake("job:1")
        assert ear.wait(10) is True
        assert ear.wait(0.01) is False


def test_a_job_is_accepted_quickly_while_redis_is_away(core: Core) -> None:
    # given the real courier on a broker that is not there
    courier = CeleryCourier(NOWHERE, core.database)
    core.courier.look = courier.look  # type: ignore[method-assign]
    core.courier.relay = courier.relay  # type: ignore[method-assign]
    core.submit()

    # when
    times = []
    for _ in range(5):
        began = time.monotonic()
        core.submit()
        times.append(time.monotonic() - began)

    # then
    assert sorted(times)[2] < 0.5
    courier.close()
