"""What a scrape of the platform's numbers costs with 1,000 and with 1,000,000 finished jobs, and what counting costs an end."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from support.core import Core
from support.servers import fresh_database, start_servers

from bench.stage import arguments, scrub_environment, spread, table, verdict
from hodei.services import figures

ONCE_S = 0.05
RATIO = 1.5
STEP = 20_000
"""So many jobs are made by one statement, which has half a minute."""

FINISHED = """
INSERT INTO jobs (id, name, spec, state, correlation_id, created_at, queued_at, started_at, completed_at, attempts)
SELECT gen_random_uuid(), 'job ' || n, '{"command": "true"}', CASE WHEN n % 10 = 0 THEN 'FAILED' ELSE 'SUCCEEDED' END,
       gen_random_uuid(), now() - n * interval '1 s', now() - n * interval '1 s', now() - n * interval '1 s', now(), 1
  FROM generate_series(1, :count) n
"""
ENDS = "UPDATE jobs SET state = 'CANCELLED', state_since = clock_timestamp() WHERE state = 'PENDING'"
WAITING = """
INSERT INTO jobs (id, name, spec, state, correlation_id)
SELECT gen_random_uuid(), 'job ' || n, '{"command": "true"}', 'PENDING', gen_random_uuid() FROM generate_series(1, :count) n
"""


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    given = parser.parse_args()
    scrub_environment()
    with (
        start_servers(given.servers) as servers,
        fresh_database(servers) as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        core = Core(url, Path(folder))
        core.provider("here")
        core.sql(FINISHED, count=1000)
        few = _scrapes(core)
        for _ in range(1000, given.jobs, STEP):
            core.sql(FINISHED, count=STEP)
        core.sql("ANALYZE jobs")
        many = _scrapes(core)
        counting, silent = _ends(core)
        core.close()
    rows: list[list[object]] = [
        ["1,000 finished jobs", spread(few)],
        [f"{given.jobs:,} finished jobs", spread(many)],
    ]
    table("Reading all numbers, 30 times", ["with", "median (least to most)"], rows)
    table(
        "Ending 10,000 jobs in one statement",
        ["", "µs each"],
        [["counted", f"{counting:.1f}"], ["triggers off", f"{silent:.1f}"]],
    )
    good = verdict("reading all numbers", statistics.median(many), ONCE_S, " s")
    good &= verdict("ratio", statistics.median(many) / statistics.median(few), RATIO, "")
    return 0 if good else 1


def _scrapes(core: Core) -> list[float]:
    figures.fold(core.platform)
    took = []
    for _ in range(31):
        began = time.monotonic()
        figures.read(core.platform)
        took.append(time.monotonic() - began)
    return took[1:]


def _ends(core: Core) -> tuple[float, float]:
    """µs per job with and without the trigger that counts."""
    found = []
    for switch in ("ENABLE", "DISABLE"):
        core.sql(f"ALTER TABLE jobs {switch} TRIGGER observe_job")
        core.sql(WAITING, count=10_000)
        began = time.monotonic()
        core.sql(ENDS)
        found.append((time.monotonic() - began) * 100)
    return found[0], found[1]


if __name__ == "__main__":
    raise SystemExit(main())
