"""Runs the same script on every provider that takes jobs, one after the other, and shows where the time went.

    python docs/examples/compare_providers.py docs/examples/jobs/cpu.py

Exits with 1 when it did not succeed on one of them, or no provider takes jobs.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

from hodei.cli.target import find
from hodei.client.client import HodeiClient
from hodei.client.shapes import Job
from hodei.embedded import state_file
from hodei.errors import HodeiError

TAKES_JOBS = ("active", "degraded", "overloaded")


def main() -> int:
    script = Path(sys.argv[1]).read_text()
    target = find(None, None, variables=os.environ, noted=state_file.read)
    code = 0
    with HodeiClient(target.url, target.token) as platform:
        providers = [one for one in platform.providers() if one.status.lower() in TAKES_JOBS]
        if not providers:
            print("No provider takes jobs; look with: hodei provider health")
            return 1
        print(f"{'PROVIDER':<12} {'TYPE':<12} {'END':<10} {'TO START':>9} {'RUN':>9} {'LAST LINE'}")
        for provider in providers:
            submitted = platform.create_job(
                {"name": Path(sys.argv[1]).stem, "script": script, "provider": provider.name}
            )
            job = platform.wait(submitted.id)
            lines = platform.log_text(job.id).splitlines() or ["-"]
            to_start, run = (
                seconds(job, *between)
                for between in (("created_at", "started_at"), ("started_at", "completed_at"))
            )
            print(
                f"{provider.name:<12} {provider.type:<12} {job.status:<10} {to_start:>9} {run:>9} {lines[-1]}",
                flush=True,
            )
            code |= job.status != "succeeded"
    return code


def seconds(job: Job, start: str, end: str) -> str:
    """Between two of its times; ``-`` where one is not there."""
    times = [job.document.get(start), job.document.get(end)]
    if None in times:
        return "-"
    first, last = (datetime.fromisoformat(str(time)) for time in times)
    return f"{(last - first).total_seconds():.2f} s"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        sys.exit(main())
    except HodeiError as error:
        sys.exit(f"Error: {error.message}")
