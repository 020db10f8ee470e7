"""No job touched another: each had a worker of its own, on the provider that it named, and only its own output."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from e2e.ledger import Off, equal
from e2e.records import Submitted
from e2e.system import System


def check_workers(system: System, jobs: Sequence[Submitted]) -> str:
    """As many workers as jobs, and none that had an execution of any other job."""
    ids = [UUID(job.id) for job in jobs]
    rows = system.sql(
        "SELECT worker_id, count(DISTINCT job_id) FROM hodei.executions WHERE worker_id IN"
        " (SELECT worker_id FROM hodei.executions WHERE job_id = ANY(%s)) GROUP BY worker_id",
        ids,
    )
    shared = [f"worker {worker} had {count} jobs" for worker, count in rows if count != 1]
    if shared:
        raise Off("\n".join(shared))
    equal("workers", len(rows), len(jobs))
    return f"{len(rows)} workers for {len(jobs)} jobs, one job each"


def check_resources(system: System, jobs: Sequence[Submitted]) -> str:
    """No two workers name the same container or pod."""
    rows = system.sql(
        "SELECT provider_type, provider_resource_id FROM workers WHERE id IN (SELECT worker_id FROM jobs WHERE id = ANY(%s))",
        [UUID(job.id) for job in jobs],
    )
    equal("different containers or pods", len({resource for _, resource in rows}), len(jobs))
    equal("providers", sorted(kind for kind, _ in rows), sorted(job.provider for job in jobs))
    return f"{len(rows)} of their own: " + ", ".join(sorted(resource[:12] for _, resource in rows))


def check_outputs(system: System, jobs: Sequence[Submitted]) -> str:
    """What is stored of each job is what that job wrote, byte for byte."""
    with system.client() as client:
        for job in jobs:
            equal(f"log of {job.name}", client.log_bytes(job.id).decode(errors="replace"), job.output)
    return f"{sum(len(job.output.encode()) for job in jobs)} bytes in {len(jobs)} logs, each its job's own"


def check_events(system: System, jobs: Sequence[Submitted]) -> str:
    """Events of a job name no other job of the procedure, and no worker but the job's own."""
    wrong = system.sql(
        "SELECT event.correlation_id, event.event_type FROM domain_events AS event JOIN jobs ON jobs.id = event.correlation_id"
        " WHERE jobs.id = ANY(%s) AND event.payload ? 'worker_id' AND event.payload ->> 'worker_id' <> jobs.worker_id::text",
        [UUID(job.id) for job in jobs],
    )
    equal("events that name another's worker", wrong, [])
    return "each event names its own job's worker"
