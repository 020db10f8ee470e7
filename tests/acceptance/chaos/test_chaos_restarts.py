"""All of the platform goes away and comes back, in any order, or is replaced piece by piece: running jobs do not notice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.chaos_arena import SCALED, Arena, open_arena
from support.chaos_downtime import DOWN_SCALE, run_downtime
from support.chaos_witness import read_witness
from support.waiting import until

RUNNING_JOBS = 200
DOWN_S = 25.0
"""Longer than a worker may be silent before it is asked for (10 s), shorter than its lease (81 s)."""

SCALE = replace(SCALED, give_up_after=60)
"""Each worker knows one worker-manager: it must be given the time that this one needs to start again on a busy machine."""

ORDERS = 3
ROOM = 8
ENDED_WITHIN_S = 120.0
TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT"}

NEXT_PROTOCOL = """\
import sys

if "serve" in sys.orig_argv:
    import hodei_agent.protocol

    hodei_agent.protocol.PROTOCOL_VERSION += 1
    from hodei.services.agents import inbox, registration

    def with_news(function):
        return lambda *given: function(*given) | {"new_in_this_version": {"of": "no concern"}}

    registration._session = with_news(registration._session)
    inbox._assignment = with_news(inbox._assignment)
"""
"""A server of the next version: its number is higher by one, and it says things that this version's agents never heard of."""


@pytest.fixture
def arena(servers_kind: str) -> Iterator[Arena]:
    with open_arena(servers_kind, seed=7, scale=SCALE, workers=(ROOM, 0)) as opened:
        yield opened


def test_200_running_jobs_outlive_a_platform_that_is_away_for_longer_than_a_worker_may_be_silent(
    servers_kind: str,
) -> None:
    # given and when
    with open_arena(servers_kind, seed=7, scale=DOWN_SCALE, workers=(RUNNING_JOBS, 0)) as arena:
        seen = run_downtime(arena, jobs=RUNNING_JOBS, down_s=DOWN_S, start_within_s=300)

    # then
    assert seen.ended_while_away == RUNNING_JOBS // 2
    assert seen.states == {"SUCCEEDED": RUNNING_JOBS}
    assert seen.attempts == {1: RUNNING_JOBS}
    assert seen.facts.witness.repeats == [] and seen.facts.witness.starts() == RUNNING_JOBS
    assert seen.wrong_logs == []
    assert seen.left == []


def test_all_processes_killed_and_started_again_in_any_order_go_on_with_jobs_in_every_state(
    arena: Arena,
) -> None:
    rng = random.Random(11)
    ids: list[str] = []
    for turn in range(ORDERS):
        # given jobs that wait, that are being given a worker, that run, that are being cancelled, and that have ended
        go = arena.shared / f"go-{turn}"
        for number in range(3 * ROOM):
            name = f"turn-{turn}-{number}"
            job = arena.job(name, "process", seconds=0.5 if number < 3 else 600, until_there_is=go)
            ids.append(arena.submit(job, name))
        until(
            lambda: states(arena, ids[-3 * ROOM :]) >= {"SUCCEEDED", "RUNNING", "PENDING"},
            within_s=60,
            what="all states",
        )
        running = arena.sql("SELECT id::text, attempts FROM jobs WHERE state = 'RUNNING'")
        with arena.api() as client:
            client.cancel(rng.choice(running)[0])

        # when everything is killed, the servers too, and started again in a random order
        processes = [(which, process) for which in arena.sets for process in ("serve", "controller", "beat")]
        rng.shuffle(processes)
        for which, process in processes:
            arena.keeper.kill(which, process, rest=True)
        arena.postgres.kill()
        arena.redis.kill()
        starts = [
            *(lambda key=key: arena.keeper.wake(*key) for key in processes),
            arena.postgres.start,
            arena.redis.start,
        ]
        rng.shuffle(starts)
        for start in starts:
            start()
        arena.wait_until_well()

        # then what ran goes on in the same attempt
        still = dict(arena.sql("SELECT id::text, attempts FROM jobs"))
        assert {job_id: still[job_id] for job_id, _ in running} == dict(running)
        go.touch()
        until(lambda: states(arena, ids) <= TERMINAL, within_s=ENDED_WITHIN_S, what="all ends")

    # and in the end every job has run once, but those that were cancelled before they ran
    ends = dict(arena.sql("SELECT id::text, state FROM jobs"))
    witness = read_witness(arena.witness)
    assert set(ends) == set(ids)
    assert sorted(ends.values()).count("CANCELLED") <= ORDERS
    assert set(ends.values()) <= {"SUCCEEDED", "CANCELLED"}
    assert witness.repeats == [] and witness.overlaps == []
    assert {attempt for lives in witness.lives.values() for attempt in lives} == {1}
    assert all(witness.of(job_id, 1).ended for job_id, state in ends.items() if state == "SUCCEEDED")
    until(lambda: not arena.leftovers(), within_s=60, what="the end of all that was left")


def test_agents_of_this_version_work_with_servers_of_the_next_and_jobs_outlive_a_rolling_restart(
    arena: Arena, tmp_path: Path
) -> None:
    # given jobs that run, with agents of this version
    (tmp_path / "sitecustomize.py").write_text(NEXT_PROTOCOL)
    go = arena.shared / "go"
    ids = [
        arena.submit(arena.job(f"roll-{number}", "process", seconds=600, until_there_is=go), f"roll-{number}")
        for number in range(ROOM // 2)
    ]
    until(lambda: states(arena, ids) == {"RUNNING"}, within_s=60, what="running jobs")

    # when every service is replaced by the next version, one after the other, and jobs come all the while
    for which, platform in arena.sets.items():
        platform.env["PYTHONPATH"] = str(tmp_path)
        for process in ("serve", "controller", "beat"):
            arena.keeper.restart(which, process)
            arena.wait_until_well()
            name = f"after-{process}-of-{which}"
            ids.append(arena.submit(arena.job(name, "process", seconds=0.5), name))
    news = "SELECT count(*) FROM workers WHERE agent ->> 'protocol' = '1'"
    until(
        lambda: len(ids) - ROOM // 2 == sum(state == "SUCCEEDED" for state in arena.states().values()),
        within_s=60,
        what="the short jobs' ends",
    )

    # then all run on, and end, in their first attempt
    assert states(arena, ids[: ROOM // 2]) == {"RUNNING"}
    go.touch()
    until(lambda: states(arena, ids) <= TERMINAL, within_s=60, what="all ends")
    assert states(arena, ids) == {"SUCCEEDED"}
    assert arena.sql("SELECT DISTINCT attempts FROM jobs") == [(1,)]
    assert arena.value(news) == len(ids)
    witness = read_witness(arena.witness)
    assert witness.repeats == [] and witness.starts() == len(ids)
    assert arena.keeper.self_ended == []


def states(arena: Arena, ids: list[str]) -> set[str]:
    now = arena.states()
    return {now[job_id] for job_id in ids}
