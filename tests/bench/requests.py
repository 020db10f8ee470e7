"""One orchestrator process: jobs a second, submitted one by one and in batches, and simple reads at a steady hundred a second.

Postgres syncs to disk. Nothing takes the jobs meanwhile; what tells the controllers of them goes on. Beside it: the same
rows written by a bare psycopg2, a commit each; and the processor time of a call, in the orchestrator and in Postgres.
"""

from __future__ import annotations

import sys
import time
import uuid

import psycopg2

from bench.calls import Line, Spent, as_json, one_after_another, paced, spent
from bench.stage import Stage, arguments, open_stage, percentile, table, verdict

JOB: dict[str, object] = {"name": "mass", "provider": "process", "command": "echo hello"}
LEAST_ONE_BY_ONE = 150
LEAST_IN_BATCHES = 3000
BATCH = 1000
READS_PER_S = 100
P50_S = 0.005
P99_S = 0.025


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=2000, help="submitted one by one")
    parser.add_argument("--batches", type=int, default=10, help=f"of {BATCH} jobs each")
    parser.add_argument("--for-s", type=float, default=20.0, help="how long each address is read")
    given = parser.parse_args()
    with open_stage(given.servers, names=("orchestrator",), durable=True) as stage:
        good = submitting(stage, given.jobs, given.batches)
        good &= reading(stage, given.for_s)
    return 0 if good else 1


def submitting(stage: Stage, jobs: int, batches: int) -> bool:
    """Print how many are stored in a second; True when both limits are kept."""
    _one_by_one(stage, 200, 1)
    alone = _one_by_one(stage, jobs, 1)
    together = _one_by_one(stage, jobs, 8)
    batch = as_json({"jobs": [JOB] * BATCH})

    def client() -> object:
        line = Line(stage.platform.url)
        return lambda: line.post("/api/v1/jobs/batch", batch)

    before, began = spent(stage, "orchestrator"), time.perf_counter()
    took = one_after_another(batches, 1, client)
    in_batches = _Run(
        jobs=batches * BATCH,
        took=took,
        whole_s=time.perf_counter() - began,
        cost=spent(stage, "orchestrator").since(before),
    )
    bare = _bare(stage, jobs)
    rows = [
        alone.row("POST /jobs, one client"),
        together.row("POST /jobs, 8 clients"),
        in_batches.row(f"POST /jobs/batch of {BATCH}"),
        ["bare psycopg2, the same rows, one by one", f"{bare:.0f}", "", "", ""],
    ]
    head = ["how", "jobs/s", "one request, p50", "p99", "CPU of a job: orchestrator + Postgres"]
    table("Submitting", head, rows)
    good = verdict("one by one, seconds for 150 jobs", LEAST_ONE_BY_ONE / alone.rate, 1.0, " s")
    return good & verdict("batches, seconds for 3,000 jobs", LEAST_IN_BATCHES / in_batches.rate, 1.0, " s")


class _Run:
    """So many jobs, submitted."""

    def __init__(self, *, jobs: int, took: list[float], whole_s: float, cost: Spent) -> None:
        self.jobs = jobs
        self.took = took
        self.rate = jobs / whole_s
        self.cost = cost

    def row(self, how: str) -> list[object]:
        p50, p99 = (f"{percentile(self.took, share) * 1000:.1f} ms" for share in (0.5, 0.99))
        return [how, f"{self.rate:.0f}", p50, p99, self.cost.each(self.jobs)]


def _one_by_one(stage: Stage, count: int, clients: int) -> _Run:
    body = as_json(JOB)

    def client() -> object:
        line = Line(stage.platform.url)
        return lambda: line.post("/api/v1/jobs", body)

    before, began = spent(stage, "orchestrator"), time.perf_counter()
    took = one_after_another(count, clients, client)
    whole_s = time.perf_counter() - began
    return _Run(jobs=count, took=took, whole_s=whole_s, cost=spent(stage, "orchestrator").since(before))


def _bare(stage: Stage, count: int) -> float:
    """Jobs a second when a loop writes a job, its event and its outbox row, and does nothing else."""
    connection = psycopg2.connect(stage.platform.database_url.replace("+psycopg2", ""))
    began = time.perf_counter()
    for _ in range(count):
        with connection, connection.cursor() as cursor:
            cursor.execute(_BARE, [str(uuid.uuid4())])
    rate = count / (time.perf_counter() - began)
    connection.close()
    return rate


_BARE = """
WITH job AS (
    INSERT INTO jobs (id, name, spec, state, requested_provider, correlation_id)
    VALUES (%s, 'bare', '{"command": "echo hello"}', 'PENDING', 'process', gen_random_uuid()) RETURNING id, created_at
), event AS (
    INSERT INTO domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor, payload)
    SELECT gen_random_uuid(), created_at, 'JobCreated', 'job', id, id, 'bench', '{}' FROM job RETURNING id, aggregate_id
)
INSERT INTO outbox_events (id, aggregate_type, aggregate_id, event_type, payload, idempotency_key)
SELECT id, 'job', aggregate_id, 'JobCreated', '{}', 'event:' || id FROM event
"""


def reading(stage: Stage, for_s: float) -> bool:
    """Print how long simple reads take; True when the limits are kept."""
    _end_all(stage)
    job_id = stage.platform.sql("SELECT id FROM jobs LIMIT 1")[0][0]
    rows: list[list[object]] = []
    good = True
    for name, path in (("/health", "/health"), ("/api/v1/jobs/{id}", f"/api/v1/jobs/{job_id}")):
        paced(stage.platform.url, path, per_s=READS_PER_S, for_s=2)
        before = spent(stage, "orchestrator")
        took = paced(stage.platform.url, path, per_s=READS_PER_S, for_s=for_s)
        cost = spent(stage, "orchestrator").since(before)
        p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
        rows.append([f"GET {name}", f"{p50 * 1000:.1f} ms", f"{p99 * 1000:.1f} ms", cost.each(len(took))])
        good &= verdict(f"GET {name} p50", p50, P50_S, " s")
        good &= verdict(f"GET {name} p99", p99, P99_S, " s")
    table(
        f"Reading, {READS_PER_S} requests/s",
        ["what", "p50", "p99", "CPU of a call: orchestrator + Postgres"],
        rows,
    )
    return good


def _end_all(stage: Stage) -> None:
    """What was submitted shall not wait in the queue while other things are read."""
    stage.platform.sql("UPDATE jobs SET state = 'CANCELLED', completed_at = now()")
    stage.platform.sql("VACUUM ANALYZE jobs")


if __name__ == "__main__":
    sys.exit(main())
