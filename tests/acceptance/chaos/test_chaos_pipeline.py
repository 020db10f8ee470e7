"""Processes, broker, database and agents die while a pipeline of 200 jobs fans out and in: it comes to what its rules say."""

from __future__ import annotations

import secrets

import pytest
from support.chaos_arena import open_arena
from support.chaos_pipeline import judge_pipeline, print_pipeline_table, run_pipeline_storm
from support.chaos_storm import PROCESSES

LEAST_HITS = 10


def test_a_pipeline_of_200_jobs_ends_right_whatever_dies_meanwhile(
    servers_kind: str, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    # given two of every process
    seed = pytestconfig.getoption("seed")
    seed = secrets.randbelow(10**6) if seed is None else seed
    with open_arena(servers_kind, seed=seed, workers=(16, 0), names=PROCESSES) as arena:
        # when it runs, and faults hit at random moments each a few times
        storm = run_pipeline_storm(arena, within_s=600)

        # then
        verdict = judge_pipeline(arena, storm)
        with capsys.disabled():
            print_pipeline_table(storm, verdict, seed)
        assert sum(len(hits) for hits in storm.hits.values()) >= LEAST_HITS
        assert not verdict.wrong, f"seed {seed}\n{verdict.words()}"
