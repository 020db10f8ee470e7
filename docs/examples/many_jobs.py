"""A program that submits many jobs in one request, waits for all of them, and says how it went.

    python docs/examples/many_jobs.py 20 --provider docker --command "sleep 1"

Exits with 1 when one of them did not succeed, or fewer ran at the same moment than ``--at-once`` says.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from datetime import datetime

from hodei.cli.target import find
from hodei.client.client import HodeiClient
from hodei.client.shapes import Job
from hodei.embedded import state_file
from hodei.errors import HodeiError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int)
    parser.add_argument("--provider", default="auto")
    parser.add_argument("--command", default="sleep 1")
    parser.add_argument("--name", default="many")
    parser.add_argument("--at-once", type=int, default=1)
    given = parser.parse_args()
    target = find(None, None, variables=os.environ, noted=state_file.read)
    with HodeiClient(target.url, target.token) as platform:
        began = time.monotonic()
        jobs = [
            {"name": f"{given.name}-{number}", "provider": given.provider, "command": given.command}
            for number in range(1, given.count + 1)
        ]
        ids = [job.id for job in platform.create_jobs(jobs)]
        print(f"submitted {len(ids)} jobs in {time.monotonic() - began:.2f} s", flush=True)
        ended = [platform.wait(job_id) for job_id in ids]
    return report(ended, time.monotonic() - began, given.at_once)


def report(jobs: list[Job], took_s: float, at_once: int) -> int:
    """Prints what became of them, and returns the exit code."""
    ends = Counter(job.status for job in jobs)
    workers = {job.worker_id for job in jobs if job.worker_id}
    print(f"ends: {', '.join(f'{count} {status}' for status, count in ends.items())}")
    print(f"workers: {len(workers)}; most at once: {most_at_once(jobs)}")
    print(f"took {took_s:.1f} s, {len(jobs) / took_s:.1f} jobs/s")
    for job in jobs:
        if job.status != "succeeded":
            print(f"{job.id}: {job.status}; look with: hodei job why {job.id}")
    return int(ends != {"succeeded": len(jobs)} or most_at_once(jobs) < at_once)


def most_at_once(jobs: list[Job]) -> int:
    """How many of them ran at the same moment, at most."""
    changes = []
    for job in jobs:
        if job.started_at and job.completed_at:
            changes += [
                (datetime.fromisoformat(job.started_at), 1),
                (datetime.fromisoformat(job.completed_at), -1),
            ]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HodeiError as error:
        sys.exit(f"Error: {error.message}")
