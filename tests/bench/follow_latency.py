"""From a line written by a job to the line received by its followers; alone, and beside noisy jobs.

The job writes the time itself. Ten followers read Server-Sent Events; a sample is one line at one follower.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import httpx
from support.waiting import until

from bench.stage import Stage, arguments, open_stage, percentile, table, verdict

P50_S = 0.06
P95_S = 0.15
P95_BESIDE_NOISE_S = 0.5
TELLS_TIME = 'for i in $(seq {count}); do echo "$EPOCHREALTIME"; sleep 0.1; done'
NOISE = "for i in $(seq 200); do echo '{line}'; done > block; while [ ! -e {stop} ]; do cat block; sleep 0.2; done"


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--followers", type=int, default=10)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--noisy-jobs", type=int, default=20)
    given = parser.parse_args()
    with open_stage(given.servers) as stage:
        stage.platform.sql("UPDATE provider_configs SET max_workers = 100")
        quiet = measure(stage, given.followers, given.lines)
        noisy = beside_noise(stage, given.followers, given.lines, given.noisy_jobs)
    rows = [_row("alone", quiet), _row(f"beside {given.noisy_jobs} noisy jobs", noisy)]
    head = ["line written → received", "p50", "p95", "worst", "samples"]
    table(f"{given.followers} followers of one job", head, rows)
    good = verdict("alone, p50", percentile(quiet, 0.5), P50_S, " s")
    good &= verdict("alone, p95", percentile(quiet, 0.95), P95_S, " s")
    good &= verdict("beside noisy jobs, p95", percentile(noisy, 0.95), P95_BESIDE_NOISE_S, " s")
    return 0 if good else 1


def _row(name: str, took: list[float]) -> list[object]:
    shown = [percentile(took, 0.5), percentile(took, 0.95), max(took)]
    return [name, *(f"{value * 1000:.0f} ms" for value in shown), len(took)]


def measure(stage: Stage, followers: int, lines: int) -> list[float]:
    """The delays of every line at every follower."""
    job_id = stage.submit(name="tells", provider="process", command=TELLS_TIME.format(count=lines))
    delays: list[list[float]] = [[] for _ in range(followers)]
    threads = [
        threading.Thread(target=_follow, args=(stage.platform.url, job_id, into), daemon=True)
        for into in delays
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(lines * 0.5 + 60)
    assert [len(found) for found in delays] == [lines] * followers, [len(found) for found in delays]
    return [delay for found in delays for delay in found]


def _follow(url: str, job_id: str, into: list[float]) -> None:
    with httpx.Client(timeout=60, trust_env=False) as http:
        with http.stream("GET", f"{url}/api/v1/jobs/{job_id}/logs?follow=1") as answer:
            rest = b""
            for block in answer.iter_bytes():
                now = time.time()
                *whole, rest = (rest + block).split(b"\n\n")
                for text in whole:
                    if text.startswith(b"id: ") and b"\ndata: " in text:
                        entry = json.loads(text.partition(b"\ndata: ")[2])
                        into.append(now - float(entry["text"]))


def beside_noise(stage: Stage, followers: int, lines: int, jobs: int) -> list[float]:
    """The same while other jobs write a thousand lines a second each."""
    stop = stage.platform.folder / "quiet"
    command = NOISE.format(line="n" * 99, stop=stop)
    ids = stage.submit_batch([{"name": "noisy", "provider": "process", "command": command}] * jobs)
    query = "SELECT count(*) FROM hodei.executions WHERE state = 'running' AND log_entries > 0 AND job_id = ANY(%s::uuid[])"
    until(lambda: stage.platform.sql(query, ids)[0][0] == jobs, within_s=120, what="noise of all jobs")
    try:
        return measure(stage, followers, lines)
    finally:
        stop.touch()
        for job_id in ids:
            stage.wait(job_id)


if __name__ == "__main__":
    sys.exit(main())
