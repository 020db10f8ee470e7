"""A thousand jobs RUNNING at once on the fake provider, and what everything else feels of it.

Each simulated agent has a long poll and heartbeats of its own over HTTP; one server process answers, one controller of
4 threads runs the sagas. Then: an extra job, other requests, Celery's slots, and four image pulls that hang.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from typing import Any

import httpx
from support.waiting import until

from bench.stage import Stage, arguments, open_stage, percentile, spread, table, verdict
from hodei.providers.fake.client import FleetClient, socket_path
from hodei.queue.app import make_app

START_S = 1.0
P99_S = 0.1
EXTRA_JOBS = 10
REQUESTS_PER_S = 20
HANGING_PULLS = 4


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--for-s", type=float, default=30.0, help="how long other requests are measured")
    given = parser.parse_args()
    with open_stage(given.servers, controller_threads="4", process_enabled="0") as stage:
        stage.add_fake_provider(max_workers=2 * given.jobs, config=json.dumps({"pull_s": None}))
        try:
            return 0 if measure(stage, given.jobs, given.for_s) else 1
        finally:
            shut_down_fleet(stage)


def measure(stage: Stage, count: int, for_s: float) -> bool:
    """Print it all; True when every limit is kept."""
    until_all_run = run_many(stage, count)
    until_settled = settle(stage)
    quiet = start_delays(stage, EXTRA_JOBS)
    others = other_requests(stage, for_s)
    running = count_running(stage)
    slots = active_tasks(stage)
    pulling = start_delays_beside_hanging_pulls(stage)
    assert running == count, f"{running} of {count} still run"
    head = ["what", "median (least to most)", "p99", "limit"]
    rows: list[list[object]] = [
        [
            f"submit to all {count} RUNNING",
            f"{until_all_run:.1f} s",
            "",
            f"({count / until_all_run:.0f} jobs/s)",
        ],
        ["then until no worker is being made", f"{until_settled:.1f} s", "", ""],
        ["extra job: submit to RUNNING", spread(quiet), f"{max(quiet) * 1000:.0f} ms", "1000 ms"],
    ]
    for path, took in others.items():
        rows.append([path, spread(took), f"{percentile(took, 0.99) * 1000:.0f} ms", "100 ms"])
    rows.append(["Celery slots in use", slots, "", "0"])
    rows.append(["echo beside 4 hanging pulls", spread(pulling), f"{max(pulling) * 1000:.0f} ms", "1000 ms"])
    table(f"{count} jobs RUNNING at once", head, rows)
    good = verdict("extra job starts within (worst)", max(quiet), START_S, " s")
    for path, took in others.items():
        good &= verdict(f"{path} p99", percentile(took, 0.99), P99_S, " s")
    good &= verdict("Celery slots held by running jobs", slots, 0)
    good &= verdict("echo beside hanging pulls starts within (worst)", max(pulling), START_S, " s")
    return good


def run_many(stage: Stage, count: int) -> float:
    """Have so many jobs RUNNING; the seconds from the first submit."""
    began = time.monotonic()
    job = {"name": "many", "provider": "fake", "command": "sleep 3600"}
    for first in range(0, count, 500):
        stage.submit_batch([job] * min(500, count - first))
    until(lambda: count_running(stage) == count, within_s=60 + count / 5, what=f"{count} jobs RUNNING")
    return time.monotonic() - began


def settle(stage: Stage) -> float:
    """Until every worker's PROVISIONING is over: what many starts at once left in the queue is not what is measured."""
    began = time.monotonic()
    query = "SELECT count(*) FROM sagas WHERE saga_type = 'PROVISIONING' AND completed_at IS NULL"
    until(lambda: stage.platform.sql(query)[0][0] == 0, within_s=60, what="no saga with anything to do")
    return time.monotonic() - began


def count_running(stage: Stage) -> int:
    return int(
        stage.platform.sql("SELECT count(*) FROM jobs WHERE state = 'RUNNING' AND name = 'many'")[0][0]
    )


def start_delays(stage: Stage, count: int, **more: object) -> list[float]:
    """From submit to RUNNING, by the database's clock, of jobs one after another."""
    delays = []
    for _ in range(count):
        job = stage.wait(stage.submit(name="extra", provider="fake", command="echo extra", **more))
        assert job["status"] == "succeeded", job
        query = "SELECT extract(epoch FROM started_at - created_at)::float8 FROM jobs WHERE id = %s"
        delays.append(float(stage.platform.sql(query, job["id"])[0][0]))
    return delays


def other_requests(stage: Stage, for_s: float) -> dict[str, list[float]]:
    """How long requests take that have nothing to do with the running jobs' agents, some twenty a second."""
    job_id = stage.platform.sql("SELECT id FROM jobs WHERE name = 'many' LIMIT 1")[0][0]
    paths = {"GET /health": "/health", "GET /api/v1/jobs/{id}": f"/api/v1/jobs/{job_id}"}
    took: dict[str, list[float]] = {name: [] for name in paths}
    threads = [
        threading.Thread(target=_ask, args=(stage, path, for_s, took[name])) for name, path in paths.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def _ask(stage: Stage, path: str, for_s: float, took: list[float]) -> None:
    interval_s = 2 / REQUESTS_PER_S
    ends = time.monotonic() + for_s
    with httpx.Client(base_url=stage.platform.url, timeout=30, trust_env=False) as http:
        while (began := time.monotonic()) < ends:
            http.get(path).raise_for_status()
            took.append(time.monotonic() - began)
            time.sleep(max(0.0, interval_s - took[-1]))


def active_tasks(stage: Stage) -> int:
    """The largest number of tasks that the controller was running at any of a few looks, echoes aside."""
    deployment = str(stage.platform.sql("SELECT id FROM hodei.deployment")[0][0])
    app = make_app(stage.servers.redis_url, deployment)
    seen: list[int] = []
    for _ in range(5):
        answers: dict[str, list[dict[str, Any]]] = app.control.inspect(timeout=10, limit=1).active() or {}
        assert answers, "no controller answered"
        steps = ("execution.", "provisioning.")
        seen.append(sum(task["name"].startswith(steps) for tasks in answers.values() for task in tasks))
    app.close()
    return round(statistics.median(seen))


def start_delays_beside_hanging_pulls(stage: Stage) -> list[float]:
    """Four images that never come; an echo on another image."""
    for number in range(HANGING_PULLS):
        stage.submit(name="pull", provider="fake", command="echo never", image=f"hang/{number}:1")
    pulling = "SELECT count(*) FROM hodei.image_pulls WHERE state = 'PULLING'"
    until(lambda: stage.platform.sql(pulling)[0][0] == HANGING_PULLS, what="four pulls that hang")
    return start_delays(stage, EXTRA_JOBS, image="another/image:1")


def shut_down_fleet(stage: Stage) -> None:
    """End the process that plays the agents."""
    for name in ("controller", "beat"):
        stage.platform.kill(name)  # so that nobody starts another fleet
    FleetClient(socket_path(stage.platform.folder / "data")).ask("shutdown")


if __name__ == "__main__":
    sys.exit(main())
