"""How many jobs a second can be submitted, one by one and in batches; for orientation, with no limit to keep.

Nothing runs meanwhile: dispatch is off.
"""

from __future__ import annotations

import sys
import threading
import time

import httpx

from bench.stage import Stage, arguments, open_stage, percentile, spread, table

JOB: dict[str, object] = {"name": "mass", "provider": "process", "command": "echo hello"}


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    given = parser.parse_args()
    with open_stage(given.servers, job_controller_enabled="0") as stage:
        rows = [_one_by_one(stage, given.jobs, threads) for threads in (1, 8)]
        rows += [_in_batches(stage, given.jobs, size) for size in (100, 1000)]
    table(f"Submitting {given.jobs} jobs", ["how", "jobs/s", "one request", "p99"], rows)
    return 0


def _one_by_one(stage: Stage, count: int, threads: int) -> list[object]:
    took: list[float] = []

    def submit() -> None:
        with httpx.Client(base_url=stage.platform.url, timeout=30, trust_env=False) as http:
            for _ in range(count // threads):
                began = time.monotonic()
                http.post("/api/v1/jobs", json=JOB).raise_for_status()
                took.append(time.monotonic() - began)

    workers = [threading.Thread(target=submit) for _ in range(threads)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rate = len(took) / (time.monotonic() - began)
    return [
        f"one by one, {threads} at a time",
        f"{rate:.0f}",
        spread(took),
        f"{percentile(took, 0.99) * 1000:.0f} ms",
    ]


def _in_batches(stage: Stage, count: int, size: int) -> list[object]:
    took = []
    for _ in range(max(1, count // size)):
        began = time.monotonic()
        stage.submit_batch([JOB] * size)
        took.append(time.monotonic() - began)
    rate = size * len(took) / sum(took)
    return [f"batches of {size}", f"{rate:.0f}", spread(took), f"{percentile(took, 0.99) * 1000:.0f} ms"]


if __name__ == "__main__":
    sys.exit(main())
