"""Phase 8: five jobs that are submitted together."""

from __future__ import annotations

from datetime import datetime

from e2e import activity, validation
from e2e.jobs import Watcher
from e2e.ledger import Off, equal
from e2e.records import Submitted, check_job

COUNT = 5


def check(watcher: Watcher, *, log_files_here: bool) -> None:
    jobs: list[Submitted] = []
    ledger, system = watcher.ledger, watcher.system
    if not ledger.prove(f"{COUNT} jobs are accepted in one request", lambda: _submit(watcher, jobs)):
        return
    ledger.prove(
        f"all {COUNT} end with 0, and none is silent for {watcher.silence_s:g} s",
        lambda: "\n".join(
            activity.accompany(system, [job.id for job in jobs], silence_s=watcher.silence_s).values()
        ),
    )
    ledger.prove("they ran at the same time", lambda: _together(watcher, jobs))
    for job in jobs:
        check_job(ledger, system, job, log_files_here=log_files_here)
    validation.check_isolation(ledger, system, jobs)


def _submit(watcher: Watcher, jobs: list[Submitted]) -> str:
    bodies = [
        {
            "name": f"batch-{number}",
            "provider": "docker",
            "command": f"echo start {number}; sleep 3; echo end {number}",
        }
        for number in range(1, COUNT + 1)
    ]
    with watcher.system.client() as client:
        ids = [job.id for job in client.create_jobs(bodies)]
    for number, job_id in enumerate(ids, 1):
        output = f"start {number}\nend {number}\n"
        jobs.append(Submitted(id=job_id, name=f"batch-{number}", provider="docker", output=output))
        watcher.note(jobs[-1])
    equal("jobs in the answer", len(set(ids)), COUNT)
    return ", ".join(ids)


def _together(watcher: Watcher, jobs: list[Submitted]) -> str:
    """At least two of them ran at the same moment: how many at most depends on the provider's room."""
    with watcher.system.client() as client:
        found = [client.job(job.id) for job in jobs]
    changes = []
    for job in found:
        if job.started_at is None or job.completed_at is None:
            raise Off(f"job {job.id} is {job.status.upper()}")
        changes += [
            (datetime.fromisoformat(job.started_at), 1),
            (datetime.fromisoformat(job.completed_at), -1),
        ]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    if most < 2:
        raise Off("one ran after the other")
    return f"{most} at once"
