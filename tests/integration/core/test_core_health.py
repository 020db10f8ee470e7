"""A part of the platform that has stopped is shown, however alive its process looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from support.core import Core
from support.waiting import until

from hodei.services import health
from hodei.services.clock import Clock, Loop

ALIVE = ("controller:c1", "door:d1")


@pytest.fixture
def free() -> Iterator[threading.Event]:
    """While it is set, the loop under test goes on; it is set again when the test is over."""
    event = threading.Event()
    event.set()
    yield event
    event.set()


def test_a_loop_that_stands_still_in_a_living_clock_is_named(core: Core, free: threading.Event) -> None:
    # given a clock, a controller and a door that work
    turns = 0

    def turn(_: object) -> int:
        nonlocal turns
        turns += 1
        return 0

    def stand_still(_: object) -> int:
        return int(not free.wait(60))

    for name in ALIVE:
        progress(core, name)
    loops = (
        Loop(name="dispatch", interval_s=0.02, run=stand_still),
        Loop(name="sagas", interval_s=0.02, run=turn),
    )
    clock = Clock(core.platform, loops)
    runner = threading.Thread(target=clock.run, daemon=True)
    runner.start()
    until(lambda: loop_names(core) >= {"dispatch", "sagas"}, within_s=10, what="both loops' progress")
    assert health.check(core.platform, "test")["status"] == "ok"

    # when one of its loops does not come back for a minute
    free.clear()
    core.sql(
        "UPDATE hodei.loops SET progressed_at = progressed_at - interval '1 min' WHERE name = 'dispatch'"
    )
    seen = turns
    until(lambda: turns > seen + 1, within_s=10, what="the other loop's progress")
    until(lambda: not said(core)["clock"]["ok"], within_s=10, what="the notice")

    # then that one is named, and no other
    told = health.check(core.platform, "test")
    assert told["status"] == "degraded"
    assert "dispatch (6" in told["checks"]["clock"]["message"]
    assert "sagas" not in told["checks"]["clock"]["message"]
    assert [name for name, check in told["checks"].items() if not check["ok"]] == ["clock"]
    clock.stop()
    free.set()
    runner.join(10)
    assert not runner.is_alive()


@pytest.mark.parametrize(
    ("silent", "check", "command"),
    [
        ("controller:c1", "controller", "hodei controller"),
        ("door:d1", "worker_manager", "hodei serve worker-manager"),
        ("sagas", "clock", "hodei beat"),
    ],
)
def test_who_has_not_been_heard_of_for_a_minute_is_missed_with_the_command_that_starts_it(
    core: Core, silent: str, check: str, command: str
) -> None:
    for name in (*ALIVE, "sagas"):
        progress(core, name)
    assert health.check(core.platform, "test")["status"] == "ok"

    core.sql(
        "UPDATE hodei.loops SET progressed_at = progressed_at - interval '1 min' WHERE name = :name",
        name=silent,
    )

    told = health.check(core.platform, "test")
    assert told["status"] == "degraded"
    assert [name for name, found in told["checks"].items() if not found["ok"]] == [check]
    assert command in told["checks"][check]["message"]


def progress(core: Core, name: str) -> None:
    with core.database.glance() as tx:
        tx.execute("loop_progress", name=name, owner="test", lease_s=10.0, interval_s=1.0, detail={})


def loop_names(core: Core) -> set[str]:
    return {row.name for row in core.sql("SELECT name FROM hodei.loops WHERE progressed_at IS NOT NULL")}


def said(core: Core) -> dict[str, dict[str, object]]:
    checks: dict[str, dict[str, object]] = health.check(core.platform, "test")["checks"]
    return checks


@pytest.mark.parametrize(
    ("kind", "there", "ok"),
    [
        ("controller", "controller:here:1:a", True),
        ("controller", "controller:elsewhere:1:a", False),
        ("beat", "dispatch", True),
        ("beat", "controller:here:1:a", False),
    ],
)
def test_a_process_without_http_is_judged_by_what_it_does(
    core: Core, kind: str, there: str, ok: bool
) -> None:
    # given
    progress(core, there)

    # when
    with core.database.glance() as tx:
        loops = tx.rows("loops")

    # then
    assert health.check_own(loops, kind, "here")["ok"] is ok
    core.sql("UPDATE hodei.loops SET progressed_at = progressed_at - interval '1 min'")
    with core.database.glance() as tx:
        assert not health.check_own(tx.rows("loops"), kind, "here")["ok"], "it stands still"
