"""Heartbeats of many workers at once: each is seen, and none waits for another's row."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from support.core import Core
from support.waiting import until

from hodei.errors import DatabaseUnavailable, Unauthorized
from hodei.services import agents

WORKERS = 5


@pytest.fixture
def connected(core: Core) -> list[agents.AgentIdentity]:
    """Agents of workers that are alive."""
    core.provider("here")
    jobs = [core.submit("here") for _ in range(WORKERS)]
    core.drain()
    return [core.connect(core.job(job_id).worker_id) for job_id in jobs]


def beat(core: Core, agent: agents.AgentIdentity, memory_bytes: int = 1) -> dict[str, Any]:
    return agents.heartbeat(core.platform, agent, {"executions": [], "memory_bytes": memory_bytes})


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """The answers of calls that are made at the same moment; an error is its own answer."""

    def answer(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        return list(pool.map(answer, calls))


def test_each_of_many_heartbeats_keeps_its_own_measures(
    core: Core, connected: list[agents.AgentIdentity]
) -> None:
    core.sql("UPDATE workers SET last_heartbeat = now() - interval '1 hour'")

    answers = at_once([lambda a=a, n=n: beat(core, a, n) for n, a in enumerate(connected)])

    assert [answer["stale"] for answer in answers] == [[]] * WORKERS
    for number, agent in enumerate(connected):
        assert core.worker(agent.worker_id).usage["memory_bytes"] == number
    assert core.sql("SELECT id FROM workers WHERE last_heartbeat < now() - interval '1 minute'") == []


def test_a_worker_that_has_ended_is_told_so_among_others_that_live(
    core: Core, connected: list[agents.AgentIdentity]
) -> None:
    unknown = agents.AgentIdentity(worker_id=uuid4())

    *alive, ended = at_once([lambda a=a: beat(core, a) for a in [*connected, unknown]])

    assert all("stale" in answer for answer in alive)
    assert isinstance(ended, Unauthorized)


def test_a_row_that_somebody_holds_delays_its_own_worker_alone(
    core: Core, connected: list[agents.AgentIdentity]
) -> None:
    held, *others = connected
    with ThreadPoolExecutor() as pool:
        with core.platform.database.begin() as tx:
            tx.row("worker_lock", id=held.worker_id)

            late = pool.submit(beat, core, held, 7)
            soon = [pool.submit(beat, core, agent) for agent in others]

            assert [each.result(timeout=10)["stale"] for each in soon] == [[]] * len(others)
            assert not late.done()
        assert late.result(timeout=10)["stale"] == []
    assert core.worker(held.worker_id).usage["memory_bytes"] == 7


def test_a_connection_that_breaks_is_told_to_each_caller(
    core: Core, connected: list[agents.AgentIdentity]
) -> None:
    blocker = core.platform.database.engine.connect()
    try:
        blocker.exec_driver_sql("BEGIN; LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor() as pool:
            answers = [pool.submit(beat, core, agent) for agent in connected]
            cut = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE datname = current_database() AND wait_event_type = 'Lock'"""
            until(lambda: core.sql(cut) is not None and all(each.done() for each in answers), what="answers")
            errors = [answer.exception() for answer in answers]
    finally:
        blocker.invalidate()
        blocker.close()
    assert [type(error) for error in errors] == [DatabaseUnavailable] * WORKERS
