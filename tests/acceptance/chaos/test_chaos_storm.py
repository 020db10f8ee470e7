"""Processes, brokers, databases, daemons and networks die while jobs run: nothing is lost, done twice or left over."""

from __future__ import annotations

import secrets

import pytest
from support.chaos_arena import open_arena
from support.chaos_storm import PROCESSES, run_storm
from support.chaos_verdict import judge, print_table

pytestmark = pytest.mark.docker

JOBS = 300
EACH = 3


def test_nothing_is_lost_nothing_is_done_twice_and_nothing_is_left_over(
    chaos_image: str, servers_kind: str, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    # given two of every process
    seed = pytestconfig.getoption("seed")
    seed = secrets.randbelow(10**6) if seed is None else seed
    with open_arena(servers_kind, seed=seed, image=chaos_image, names=PROCESSES) as arena:
        # when jobs come, half of them on Docker, and every fault hits a few times, at random moments
        storm = run_storm(
            arena, jobs=JOBS, each=EACH, providers=("process", "docker"), in_flight=30, settle_within_s=240
        )

        # then
        verdict = judge(arena, storm)
        with capsys.disabled():
            print_table(arena, storm, verdict, seed)
        assert {name: len(hits) for name, hits in storm.hits.items() if len(hits) < EACH} == {}
        assert len(storm.submitted) >= JOBS
        assert not verdict.wrong, f"seed {seed}\n{verdict.words()}"
