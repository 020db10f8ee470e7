"""Every process is replaced in its turn, as for a new version, while jobs come all the time: nobody who calls notices."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import httpx
from support.numbered import Reader, numbered_job, numbered_lines
from support.platform import SERVICES, RunningPlatform
from support.rolling import PROCESSES, Caller, add_fleet, runs, witnessed_fleet
from support.servers import Servers, fresh_database
from support.waiting import until

JOBS_PER_S = 5.0
JOB = {"name": "rolling", "provider": "fake", "command": "sleep 0.3; echo done"}
PLACES = 200
ENDED_WITHIN_S = 180.0


def test_a_rolling_restart_under_load_fails_no_request_loses_no_job_and_breaks_no_follower(
    servers: Servers, tmp_path: Path
) -> None:
    # given jobs that come five a second, and one that writes all the time, with somebody who follows it
    stop = tmp_path / "stop"
    with fresh_database(servers) as url:
        platform = RunningPlatform(tmp_path, url, servers.redis_url, names=PROCESSES)
        with witnessed_fleet(platform) as said, platform, platform.client() as client:
            add_fleet(platform, places=PLACES)
            caller = Caller(platform=platform, job=JOB, rate=JOBS_PER_S)
            reader = Reader(platform.client(), client.create_job(numbered_job("process", str(stop))).id)
            reader.start()
            until(lambda: reader.entries, within_s=60, what="the first line of the one that writes")

            # when one process after the other is told to stop and started again
            with caller.calling():
                for name in PROCESSES:
                    before = len(caller.job_ids)
                    platform.kill(name, signal.SIGTERM)
                    assert platform.processes[name].returncode == 0, f"{name} did not end by itself"
                    platform.start(name)
                    platform.wait_until_ready()
                    until(lambda: _answers(platform, name), within_s=60, what=f"an answer of {name}")  # noqa: B023
                    until(lambda: len(caller.job_ids) > before, within_s=60, what="jobs after it")  # noqa: B023
            stop.touch()
            reader.join(ENDED_WITHIN_S)
            ended = until(
                lambda: _all_ended(platform, len(caller.job_ids) + 1),
                within_s=ENDED_WITHIN_S,
                what="all ends",
            )

            # then no call failed, every job that was accepted ran once, and the follower missed and repeated nothing
            assert caller.failed == []
            assert ended == {("SUCCEEDED", 1): len(caller.job_ids) + 1}
            assert runs(said) == Counter(caller.job_ids)
            assert reader.end is not None and reader.end.status == "succeeded"
            read = [entry.text for entry in reader.entries]
            assert read == numbered_lines(read[-1])
            print(f"{len(caller.job_ids)} jobs; the longest calls: {caller.longest_s}")


def _answers(platform: RunningPlatform, name: str) -> bool:
    """Whether a service answers; what has no door of its own is judged by the whole platform's health alone."""
    if name not in SERVICES:
        return True
    try:
        return httpx.get(f"{platform.service_url(name)}/health", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def _all_ended(platform: RunningPlatform, count: int) -> Counter[tuple[str, int]] | None:
    """How many jobs there are in each state and number of attempts, once all have ended."""
    found = Counter(
        {
            (state, attempts): n
            for state, attempts, n in platform.sql(
                "SELECT state, attempts, count(*) FROM jobs GROUP BY state, attempts"
            )
        }
    )
    terminal = {"SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT"}
    return found if found.total() >= count and {state for state, _ in found} <= terminal else None
