"""Many jobs that run at once hold up nothing: a small version of ``tests/bench/thousand_running.py``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from bench import thousand_running as many
from bench.stage import Stage
from support.platform import RunningPlatform
from support.servers import Servers

JOBS = 200


@pytest.fixture
def stage(servers: Servers, database_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A platform with a fake provider of which pulls hang, one controller and one server process."""
    started = RunningPlatform(
        tmp_path, database_url, servers.redis_url, controller_threads="4", process_enabled="0"
    )
    with started as platform, httpx.Client(base_url=platform.url, timeout=30, trust_env=False) as http:
        on = Stage(platform=platform, servers=servers, http=http)
        on.add_fake_provider(max_workers=2 * JOBS, config=json.dumps({"pull_s": None}))
        yield on
        many.shut_down_fleet(on)


def test_many_running_jobs_hold_up_neither_another_job_nor_a_request_nor_a_celery_slot(stage: Stage) -> None:
    # given
    many.run_many(stage, JOBS)
    many.settle(stage)

    # when
    alone = many.start_delays(stage, 5)
    requests = many.other_requests(stage, 3)
    slots = many.active_tasks(stage)
    beside_hanging_pulls = many.start_delays_beside_hanging_pulls(stage)

    # then
    assert many.count_running(stage) == JOBS
    assert slots == 0
    assert statistics.median(alone) < many.START_S, alone
    assert statistics.median(beside_hanging_pulls) < many.START_S, beside_hanging_pulls
    for path, took in requests.items():
        assert statistics.median(took) < many.P99_S, path
