"""The SQL that an operator asks about one job that ended in its first attempt, on a worker made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from support.contract import PUBLIC_TABLES, SAGA_STEPS, SAGAS_OF_A_JOB

from e2e.ledger import Ledger, Off, equal, within
from e2e.system import System

GONE_WITHIN_S = 5.0
SAGA_ENDS_WITHIN_S = 5.0
"""A very short job ends while the step that announces its worker is still being written down."""


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job of the procedure, and what it had to come to."""

    id: str
    name: str
    provider: str
    output: str
    exit_code: int = 0

    @property
    def state(self) -> str:
        return "FAILED" if self.exit_code else "SUCCEEDED"


def check_job(ledger: Ledger, system: System, job: Submitted, *, log_files_here: bool = True) -> None:
    """Every check of the contract's tables for this job."""
    facts: dict[str, Callable[[], str]] = {
        "its row says how it ended": lambda: _row(system, job),
        "its events are the five of a first attempt, in order": lambda: _events(system, job),
        "its sagas PROVISIONING and EXECUTION are COMPLETED, with every step and its audit": lambda: _sagas(system, job),
        "its log was kept before its end showed": lambda: _log_file(system, job, here=log_files_here),
        "its worker is TERMINATED within 5 s, with its resource's id": lambda: _worker(system, job),
    }  # fmt: skip
    for name, fact in facts.items():
        ledger.prove(f"{job.name}: {name}", fact)


def check_tables(system: System) -> str:
    """``public`` holds the nine tables and nothing besides."""
    found = system.sql(
        "SELECT relname || CASE relkind WHEN 'r' THEN '' ELSE ' (' || relkind::text || ')' END FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind NOT IN ('i', 't') ORDER BY relname"
    )
    equal("tables of public", [name for (name,) in found], PUBLIC_TABLES)
    return ", ".join(PUBLIC_TABLES)


def _row(system: System, job: Submitted) -> str:
    rows = system.sql(
        "SELECT state, exit_code, attempts, correlation_id = id,"
        " created_at < started_at AND started_at < completed_at, completed_at - started_at FROM jobs WHERE id = %s",
        UUID(job.id),
    )
    if not rows:
        raise Off(f"jobs has no row {job.id}")
    *found, took = rows[0]
    equal(
        "state, exit_code, attempts, correlation_id = id, times in order",
        found,
        [job.state, job.exit_code, 1, True, True],
    )
    return f"{job.id} {job.state}, exit code {job.exit_code}, ran {took.total_seconds():.2f} s"


def _events(system: System, job: Submitted) -> str:
    wanted = [
        "JobCreated",
        "JobAssigned",
        "JobAccepted",
        "JobStatusChanged RUNNING",
        f"JobStatusChanged {job.state}",
    ]
    for column in ("aggregate_id", "correlation_id"):
        rows = system.sql(
            "SELECT concat_ws(' ', event_type, payload ->> 'new_state'), occurred_at FROM domain_events"
            f" WHERE {column} = %s ORDER BY occurred_at",
            UUID(job.id),
        )
        equal(f"events by {column}", [event for event, _ in rows], wanted)
        _grows([at for _, at in rows])
    return " > ".join(wanted)


def _sagas(system: System, job: Submitted) -> str:
    def ended() -> list[tuple[Any, ...]]:
        rows = system.sql(
            "SELECT id, saga_type, state FROM sagas WHERE correlation_id = %s ORDER BY started_at",
            UUID(job.id),
        )
        return [] if any(state in ("PENDING", "IN_PROGRESS") for *_, state in rows) else rows

    sagas = within(SAGA_ENDS_WITHIN_S, "the end of its sagas", ended)
    equal("sagas", [row[1:] for row in sagas], [(kind, "COMPLETED") for kind in SAGAS_OF_A_JOB])
    for saga_id, kind, _ in sagas:
        steps = system.sql(
            "SELECT step_name, state FROM saga_steps WHERE saga_id = %s ORDER BY step_order", saga_id
        )
        equal(f"steps of {kind}", steps, [(name, "COMPLETED") for name in SAGA_STEPS[kind]])
        audit = system.sql(
            "SELECT concat_ws(' ', event_type, step_name), occurred_at FROM saga_audit_events"
            " WHERE saga_id = %s ORDER BY occurred_at",
            saga_id,
        )
        equal(f"audit of {kind}", [line for line, _ in audit], list(_audit(SAGA_STEPS[kind])))
        _grows([at for _, at in audit])
    return "; ".join(f"{kind}: {', '.join(SAGA_STEPS[kind])}" for kind in SAGAS_OF_A_JOB)


def _audit(steps: list[str]) -> Iterator[str]:
    yield "SagaStarted"
    for step in steps:
        yield from (f"StepStarted {step}", f"StepCompleted {step}")
    yield "SagaCompleted"


def _log_file(system: System, job: Submitted, *, here: bool) -> str:
    rows = system.sql(
        "SELECT storage_uri, size_bytes, entry_count, job_log_files.created_at <= completed_at"
        " FROM job_log_files JOIN jobs ON jobs.id = job_id WHERE job_id = %s",
        UUID(job.id),
    )
    if len(rows) != 1:
        raise Off(f"job_log_files has {len(rows)} rows of {job.id}")
    [(uri, size_bytes, entries, in_time)] = rows
    wrote = job.output.encode()
    equal(
        "bytes, entries > 0, there before the end",
        (size_bytes, entries > 0, in_time),
        (len(wrote), bool(wrote), True),
    )
    if not uri.startswith("file:///"):
        raise Off(f"storage_uri is {uri}")
    if not here:
        return f"{uri}, {size_bytes} bytes, {entries} entries (the file itself is elsewhere)"
    path = Path(unquote(urlsplit(uri).path))
    if not path.is_file():
        raise Off(
            f"{path} is not there. If this system keeps its logs on another machine: --log-files elsewhere"
        )
    equal(f"content of {path}", path.read_bytes(), wrote)
    return f"{uri}, {size_bytes} bytes, {entries} entries"


def _worker(system: System, job: Submitted) -> str:
    def ended() -> tuple[Any, ...] | None:
        rows = system.sql(
            "SELECT workers.id, workers.state, provider_type, provider_resource_id,"
            " extract(epoch FROM terminated_at - completed_at)::float FROM jobs JOIN workers ON workers.id = worker_id"
            " WHERE jobs.id = %s",
            UUID(job.id),
        )
        if not rows:
            raise Off(f"job {job.id} names no worker")
        return rows[0] if rows[0][1] == "TERMINATED" else None

    worker_id, state, provider, resource_id, after_s = within(GONE_WITHIN_S, "its worker's end", ended)
    equal("provider", provider, job.provider)
    if not resource_id:
        raise Off(f"worker {worker_id} has no container id or pod name")
    if after_s > GONE_WITHIN_S:
        raise Off(f"worker {worker_id} was TERMINATED only {after_s:.1f} s after its job's end")
    return f"{worker_id} {state} {after_s:.2f} s after the job's end, {provider} {resource_id[:48]}"


def _grows(times: list[Any]) -> None:
    if not all(earlier < later for earlier, later in pairwise(times)):
        raise Off(f"occurred_at does not strictly grow: {[f'{at:%H:%M:%S.%f}' for at in times]}")
