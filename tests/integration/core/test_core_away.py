"""All of the platform away for five minutes, or without a door: no worker is late for that time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

import pytest
from support.core import Core, open_the_door, reopen_the_door
from support.core_cancel import AgentOf, pass_time
from support.waiting import until

from hodei.services import presence, repair


def away(core: Core, seconds: float, *, reopened: bool) -> None:
    """As if so long had passed without any of us; a door is open again, or is not yet, when the first saga is looked at."""
    core.sql(f"UPDATE hodei.executions SET created_at = created_at - interval '{seconds} s'")
    core.sql(f"UPDATE workers SET registered_at = registered_at - interval '{seconds + 1} s'")
    core.sql(
        "UPDATE saga_steps SET output_data = output_data || jsonb_build_object('created_at',"
        f" (output_data ->> 'created_at')::timestamptz - interval '{seconds} s') WHERE output_data ? 'created_at'"
    )
    core.sql(
        "UPDATE sagas SET metadata = metadata || jsonb_build_object('deadline',"
        f" (metadata ->> 'deadline')::timestamptz - interval '{seconds} s') WHERE metadata ? 'deadline'"
    )
    pass_time(core, seconds)
    if reopened:
        reopen_the_door(core)
    else:
        core.sql("DELETE FROM hodei.loops")
    repair.nudge_sagas(core.platform)
    core.drain()


def accepted(core: Core) -> tuple[UUID, AgentOf]:
    """A job that its agent is about to start."""
    core.provider("here")
    open_the_door(core)
    job_id, worker_id = core.to_running_worker("here")
    agent = AgentOf(core, worker_id)
    agent.accept()
    return job_id, agent


@pytest.mark.parametrize("reopened", [True, False])
def test_an_agent_that_could_not_say_that_it_started_still_may(core: Core, reopened: bool) -> None:
    # given
    job_id, agent = accepted(core)

    # when
    away(core, 300, reopened=reopened)

    # then
    assert core.job(job_id).state == "ASSIGNED"
    agent.started()
    assert core.job(job_id).state == "RUNNING"


@pytest.mark.parametrize("reopened", [True, False])
def test_a_worker_that_could_not_connect_still_may(core: Core, reopened: bool) -> None:
    # given
    core.provider("here")
    open_the_door(core)
    job_id = core.submit("here")
    core.drain()
    worker_id = core.job(job_id).worker_id

    # when
    away(core, 300, reopened=reopened)

    # then
    assert core.worker(worker_id).state == "CONNECTING"
    core.connect(worker_id)
    core.drain()
    assert (core.job(job_id).state, core.job(job_id).worker_id) == ("ASSIGNED", worker_id)


def test_after_that_a_start_may_take_as_long_as_ever_and_no_longer(core: Core) -> None:
    # given
    job_id, _ = accepted(core)
    away(core, 300, reopened=True)

    # when
    core.sql(
        "UPDATE hodei.loops SET detail = jsonb_build_object('up_since', clock_timestamp() - interval '61 s')"
    )
    pass_time(core, 61)
    repair.nudge_sagas(core.platform)
    core.drain()

    # then
    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_2002")


def test_where_there_never_is_a_door_a_start_and_a_worker_end_with_their_causes(core: Core) -> None:
    # given an agent that has given its job up by its own clock, and a worker whose provisioning is out of its time
    started, _ = accepted(core)
    connecting = core.submit("here")
    core.drain()

    # when
    away(core, 60 + core.platform.settings.lease_over_s, reopened=False)

    # then
    assert core.job(started).error_code == "ERR_2002"
    assert core.job(connecting).error_code == "ERR_3005"


@pytest.fixture
def door(core: Core, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], datetime]]:
    """A door that says that it is there all the time; says it once more, and since when it then is."""
    monkeypatch.setattr(presence, "INTERVAL_S", 0.02)
    running = presence.Presence(core.database, "door", "d").start()
    said = "SELECT progressed_at FROM hodei.loops WHERE name = 'door:d' AND progressed_at > :before"

    def says_it_again() -> datetime:
        [now] = core.sql("SELECT clock_timestamp() AS at")
        until(lambda: core.sql(said, before=now.at), within_s=10, what="the door")
        with core.database.glance() as tx:
            since: datetime = tx.scalar("reachable_since")
        return since

    until(lambda: core.sql("SELECT 1 FROM hodei.loops"), within_s=10, what="the door")
    yield says_it_again
    running.stop()


def test_a_door_is_there_since_it_said_so_first(core: Core, door: Callable[[], datetime]) -> None:
    first = door()

    assert door() == door() == first


@pytest.mark.parametrize("seconds", [presence.BREAK_S + 1, 600.0])
def test_a_door_that_slept_with_its_machine_is_there_since_it_woke(
    core: Core, door: Callable[[], datetime], seconds: float
) -> None:
    # given a worker that was heard a moment before
    core.provider("here")
    _, worker_id = core.to_running_worker("here")
    core.sql("UPDATE workers SET last_heartbeat = clock_timestamp()")
    [begun] = core.sql("SELECT clock_timestamp() AS at")

    # when so long passes at once: nobody's call has failed meanwhile
    core.sql(f"UPDATE workers SET last_heartbeat = last_heartbeat - interval '{seconds} s'")
    core.sql(
        f"UPDATE hodei.loops SET progressed_at = progressed_at - interval '{seconds} s',"
        f" lease_expires = lease_expires - interval '{seconds} s', detail = jsonb_build_object("
        f"'up_since', clock_timestamp() - interval '2 h')"
    )

    # then it is not the worker that was silent
    assert door() > begun.at
    assert repair.watch_workers(core.platform) == 0
    assert core.worker(worker_id).state == "BUSY"
