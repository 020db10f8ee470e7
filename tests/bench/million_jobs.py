"""A million finished jobs in the table: how long a page of jobs takes, by each filter, and what dispatch feels of it.

Two platforms on the same servers, one with a thousand finished jobs and one with a million, each job with its attempt, its
worker and its first event. Pages are read over HTTP, and jobs for the fake provider submitted, at both in turns.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import httpx
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database, start_servers

from bench.calls import Line
from bench.stage import (
    FAKE_PROVIDER_ID,
    Stage,
    arguments,
    leave_by_sigterm,
    percentile,
    scrub_environment,
    spread,
    table,
    verdict,
)
from bench.thousand_running import shut_down_fleet
from hodei.services.paging import encode

FEW = 1000
PAGE_P95_S = 0.02
RATIO = 1.5
STATES = "CASE i % 20 WHEN 0 THEN 'FAILED' WHEN 1 THEN 'CANCELLED' WHEN 2 THEN 'TIMEOUT' ELSE 'SUCCEEDED' END"
SEED = (
    f"""
INSERT INTO jobs (id, name, spec, state, requested_provider, selected_provider_id, worker_id, pipeline_id, attempts, created_at,
                  queued_at, due_at, state_since, started_at, completed_at, exit_code, labels, correlation_id, last_event_at)
SELECT id, 'nightly-' || i % 1000, '{{{{"command": "echo hello", "provider": "fake"}}}}', {STATES}, 'fake', '{{provider}}',
       md5('worker' || i)::uuid, CASE WHEN i % 10 = 0 THEN md5('pipeline' || i % 1000)::uuid END, 1, at, at, at, at, at,
       at + interval '1 s', i % 20, jsonb_build_object('team', 'team-' || i % 10, 'run', 'run-' || i), id, at
  FROM (SELECT i, md5('job' || i)::uuid AS id, now() - make_interval(secs => 0.5 * ({{count}} - i) + 60) AS at
          FROM generate_series(1, {{count}}) AS i) AS made
""",
    """
INSERT INTO hodei.executions (id, job_id, attempt, worker_id, state, exit_code, last_frame, log_entries, log_bytes, log_complete,
                              created_at, accepted_at, started_at, reported_at, completed_at)
SELECT id, id, 1, worker_id, CASE state WHEN 'SUCCEEDED' THEN 'completed' ELSE lower(state) END, exit_code, 1, 1, 6, true,
       created_at, created_at, created_at, completed_at, completed_at
  FROM jobs
""",
    """
INSERT INTO workers (id, provider_id, provider_type, state, last_job_id, created_at, updated_at, terminated_at, registered_at,
                     last_heartbeat)
SELECT worker_id, '{provider}', 'fake', 'TERMINATED', id, created_at, completed_at, completed_at, created_at, completed_at
  FROM jobs
""",
    """
INSERT INTO domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor)
SELECT id, created_at, 'JobCreated', 'job', id, id, 'bench' FROM jobs
""",
    "VACUUM ANALYZE",
)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--pages", type=int, default=100, help="of each filter")
    parser.add_argument("--dispatches", type=int, default=40, help="at each platform")
    given = parser.parse_args()
    scrub_environment()
    leave_by_sigterm()
    with start_servers(given.servers) as servers, _platform(servers, FEW) as few:
        with _platform(servers, given.jobs) as many:
            good = pages(few, many, given.jobs, given.pages)
            good &= dispatching(few, many, given.jobs, given.dispatches)
    return 0 if good else 1


@contextlib.contextmanager
def _platform(servers: Servers, count: int) -> Iterator[Stage]:
    """A platform whose table holds so many finished jobs."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fresh_database(servers))
        place = Path(stack.enter_context(TemporaryDirectory(prefix="hodei-bench-")))
        platform = RunningPlatform(place, url, servers.redis_url, process_enabled="0")
        stage = Stage(platform=platform, servers=servers, http=httpx.Client())
        stage.add_fake_provider(max_workers=100)
        began = time.monotonic()
        for statement in SEED:
            platform.sql(statement.format(count=count, provider=FAKE_PROVIDER_ID))
        print(f"{count} finished jobs made in {time.monotonic() - began:.0f} s", flush=True)
        stack.enter_context(platform)
        http = stack.enter_context(httpx.Client(base_url=platform.url, timeout=30, trust_env=False))
        stack.callback(shut_down_fleet, stage)
        yield Stage(platform=platform, servers=servers, http=http)


def filters(jobs: int, rng: random.Random) -> dict[str, dict[str, str]]:
    """Each filter alone, what is common, rare and nowhere; and some together. ``*``: with a cursor to somewhere."""
    number = rng.randrange(jobs)
    return {
        "all": {},
        "all*": {},
        "status=succeeded": {"status": "succeeded"},
        "status=failed*": {"status": "failed"},
        "status=running": {"status": "running"},
        "name, one in 1,000": {"name": f"nightly-{number % 1000}"},
        "name, one in 1,000*": {"name": f"nightly-{number % 1000}"},
        "name, none": {"name": "never"},
        "label, one in 10": {"label": f"team=team-{number % 10}"},
        "label, one in 10*": {"label": f"team=team-{number % 10}"},
        "label, only one": {"label": f"run=run-{number}"},
        "label, none": {"label": "team=nobody"},
        "pipeline_id, one in 1,000": {"pipeline_id": "{pipeline}"},
        "status=failed, label, one in 10": {"status": "failed", "label": "team=team-0"},
        "status=timeout, name, none": {"status": "timeout", "name": "nightly-1"},
    }


def pages(few: Stage, many: Stage, jobs: int, count: int) -> bool:
    """Print how long pages of 50 jobs take; True when each filter's p95 is within the limit."""
    rng = random.Random(6)
    lines = {FEW: Line(few.platform.url), jobs: Line(many.platform.url)}
    stages = {FEW: few, jobs: many}
    took: dict[str, dict[int, list[float]]] = {}
    for _ in range(count):
        for size, line in lines.items():
            for name, query in filters(size, rng).items():
                path = _path(stages[size], name, query, size, rng)
                began = time.perf_counter()
                line.get(path)
                took.setdefault(name, {}).setdefault(size, []).append(time.perf_counter() - began)
    rows: list[list[object]] = []
    for name, found in took.items():
        shown = [percentile(found[jobs], share) for share in (0.5, 0.95)]
        ratio = statistics.median(found[jobs]) / statistics.median(found[FEW])
        rows.append([name, *(f"{value * 1000:.1f} ms" for value in shown), f"{ratio:.2f}"])
    table(
        f"A page of 50 of {jobs} jobs (* from anywhere)",
        ["filter", "p50", "p95", f"p50 ÷ that of {FEW}"],
        rows,
    )
    good = True
    for name, found in took.items():
        good &= verdict(f"page by {name}, p95", percentile(found[jobs], 0.95), PAGE_P95_S, " s")
    return good


def _path(stage: Stage, name: str, query: Mapping[str, str], jobs: int, rng: random.Random) -> str:
    given = dict(query)
    if given.get("pipeline_id"):
        text = "SELECT md5('pipeline' || %s)::uuid"
        given["pipeline_id"] = str(stage.platform.sql(text, rng.randrange(0, 1000, 10))[0][0])
    if name.endswith("*"):
        text = "SELECT created_at, id FROM jobs WHERE id = md5('job' || %s)::uuid"
        given["cursor"] = encode(*stage.platform.sql(text, rng.randrange(jobs // 10, jobs))[0])
    return f"/api/v1/jobs?{urlencode(given)}"


def dispatching(few: Stage, many: Stage, jobs: int, count: int) -> bool:
    """Print from submit to RUNNING with each table, in turns; True when the million costs no more than it may."""
    stages = {FEW: few, jobs: many}
    for stage in stages.values():
        _to_running(stage)
    took: dict[int, list[float]] = {size: [] for size in stages}
    before = _rows_read(many)
    for _ in range(count):
        for size, stage in stages.items():
            took[size].append(_to_running(stage))
    read = sorted(((seen - before[name]) // count, name) for name, seen in _rows_read(many).items())
    rows: list[list[object]] = [
        [f"{size} finished jobs", spread(found), f"{percentile(found, 0.95) * 1000:.0f} ms"]
        for size, found in took.items()
    ]
    table("Dispatch: submit to RUNNING", ["table", "median (least to most)", "p95"], rows)
    print(
        "read by scans of whole tables, rows for each job:",
        ", ".join(f"{name} {number}" for number, name in reversed(read) if number) or "none",
    )
    ratio = statistics.median(took[jobs]) / statistics.median(took[FEW])
    return verdict("dispatch, ratio of the medians", ratio, RATIO)


def _to_running(stage: Stage) -> float:
    """By the database's clock."""
    job = stage.wait(stage.submit(name="extra", provider="fake", command="echo extra"))
    assert job["status"] == "succeeded", job
    query = "SELECT extract(epoch FROM started_at - created_at)::float8 FROM jobs WHERE id = %s"
    return float(stage.platform.sql(query, job["id"])[0][0])


def _rows_read(stage: Stage) -> dict[str, int]:
    """By sequential scans so far, in each table."""
    return dict(stage.platform.sql("SELECT relname, seq_tup_read FROM pg_stat_user_tables"))


if __name__ == "__main__":
    sys.exit(main())
