"""A job that prints and exits at once: its result does not overtake its output."""

from __future__ import annotations

import pytest
from support.platform import RunningPlatform
from support.short_jobs import wrong_short_logs

JOBS = 60
"""Of each provider; ``tests.bench.log_volume --short-jobs 250`` runs 500 in all."""

AT_ONCE = 12


@pytest.mark.docker
@pytest.mark.parametrize("provider", ["docker", "process"])
def test_a_job_that_prints_and_exits_at_once_loses_no_line(
    docker_running: RunningPlatform, provider: str
) -> None:
    with docker_running.client() as client:
        assert wrong_short_logs(client, provider, JOBS, at_once=AT_ONCE) == []
