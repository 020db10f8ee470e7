"""Phase 6: the questions of an operator in SQL about what has run, and that no job touched another."""

from __future__ import annotations

from collections.abc import Sequence

from e2e import isolation, records, remains
from e2e.ledger import Ledger
from e2e.records import Submitted
from e2e.system import System


def check(ledger: Ledger, system: System, jobs: Sequence[Submitted], *, log_files_here: bool) -> None:
    """All of it, for jobs that have ended."""
    ledger.prove("public has the nine tables, and nothing besides", lambda: records.check_tables(system))
    for job in jobs:
        records.check_job(ledger, system, job, log_files_here=log_files_here)
    check_isolation(ledger, system, jobs)


def check_isolation(ledger: Ledger, system: System, jobs: Sequence[Submitted]) -> None:
    ledger.prove("each job had a worker of its own", lambda: isolation.check_workers(system, jobs))
    ledger.prove(
        "each worker had a container or pod of its own, where the job wanted it",
        lambda: isolation.check_resources(system, jobs),
    )
    ledger.prove(
        "each log holds its job's output, and no other's", lambda: isolation.check_outputs(system, jobs)
    )
    ledger.prove("no event names another job's worker", lambda: isolation.check_events(system, jobs))
    ledger.prove("no container of theirs is left", lambda: remains.check_containers(system, jobs))
