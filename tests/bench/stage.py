"""What every measurement needs: servers and a platform of its own, and its result as a table."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database, start_servers

FAKE_PROVIDER_ID = UUID("f4cef4ce-f4ce-f4ce-f4ce-f4cef4cef4ce")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what all measurements take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--servers",
        choices=("embedded", "system"),
        default="embedded",
        help="Postgres and Redis from the wheels, or Debian's (default: %(default)s)",
    )
    return parser


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A running platform, its servers, and a plain HTTP client."""

    platform: RunningPlatform
    servers: Servers
    http: httpx.Client

    def submit(self, **job: object) -> str:
        """Submit a job; return its id."""
        answer = self.http.post("/api/v1/jobs", json=job)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def submit_batch(self, jobs: Sequence[dict[str, object]]) -> list[str]:
        answer = self.http.post("/api/v1/jobs/batch", json={"jobs": list(jobs)}, timeout=120)
        answer.raise_for_status()
        return [str(job["id"]) for job in answer.json()]

    def wait(self, job_id: str, *, within_s: float = 120.0) -> dict[str, object]:
        """The job as HTTP shows it once it has ended."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            job = self.http.get(f"/api/v1/jobs/{job_id}", params={"wait": 30}, timeout=45).json()
            if job["completed_at"] is not None:
                return dict(job)
        raise TimeoutError(f"job {job_id} did not end within {within_s:g} s")

    def add_fake_provider(self, *, max_workers: int, config: str = "{}", name: str = "fake") -> None:
        """A provider that plays its workers; there is no other way to have one."""
        self.platform.sql(
            "INSERT INTO provider_configs (id, name, provider_type, status, config, max_workers, capabilities)"
            " VALUES (%s, %s, 'fake', 'ACTIVE', %s, %s,"
            """ '{"images": true, "cpu_limits": true, "memory_limits": true}')""",
            FAKE_PROVIDER_ID,
            name,
            config,
            max_workers,
        )


@contextlib.contextmanager
def open_stage(
    servers: str, *, folder: Path | None = None, durable: bool = False, **settings: Any
) -> Iterator[Stage]:
    """The platform in processes of its own, on servers of its own; all gone afterwards.

    ``durable``: Postgres syncs to disk, which costs what it costs in earnest. ``settings`` as `RunningPlatform` takes them.
    """
    scrub_environment()
    leave_by_sigterm()
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(start_servers(servers, durable=durable))
        url = stack.enter_context(fresh_database(running))
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hodei-bench-")))
        platform = stack.enter_context(RunningPlatform(place, url, running.redis_url, **settings))
        http = stack.enter_context(httpx.Client(base_url=platform.url, timeout=30, trust_env=False))
        yield Stage(platform=platform, servers=running, http=http)


def scrub_environment() -> None:
    """No measurement depends on what somebody has set."""
    for name in [name for name in os.environ if name.startswith("HODEI_") or name == "DATABASE_URL"]:
        del os.environ[name]


def leave_by_sigterm() -> None:
    """SIGTERM, as from ``timeout``, ends a measurement as Ctrl-C does: what it started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def machine() -> str:
    """When, on how many cores, and how busy the machine was."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load average {load}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> str:
    """Median, and the least and the most, in milliseconds."""
    middle = statistics.median(values)
    return f"{middle * 1000:.0f} ms ({min(values) * 1000:.0f} to {max(values) * 1000:.0f})"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table that is also Markdown."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    print(f"\n{title}  [{machine()}]\n", "\n".join([lines[0], rule, *lines[1:]]), sep="\n", flush=True)


def verdict(name: str, value: float, limit: float, unit: str = "") -> bool:
    """Say whether a value is within its limit."""
    good = value <= limit
    print(f"{'OK  ' if good else 'MISS'} {name}: {value:.3g}{unit} (at most {limit:g}{unit})", flush=True)
    return good
