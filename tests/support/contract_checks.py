"""What an operator checks with psql for one job that ended in its first attempt, on a worker made for it."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from support.contract import PUBLIC_TABLES, SAGA_STEPS
from support.platform import RunningPlatform
from support.waiting import until

GONE_WITHIN_S = 5.0


def check_public_schema(platform: RunningPlatform) -> None:
    """``public`` holds the nine tables, and no views, partitions, sequences or functions besides."""
    relations = platform.sql(
        "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind NOT IN ('i', 't') ORDER BY relname"
    )
    assert relations == [(name, "r") for name in PUBLIC_TABLES]
    assert platform.sql("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == []
    extensions = "SELECT extname FROM pg_extension WHERE extnamespace = 'public'::regnamespace"
    assert platform.sql(extensions) == []


def check_finished_job(
    platform: RunningPlatform, job_id: str, *, state: str = "SUCCEEDED", log: bytes | None = None
) -> dict[str, Any]:
    """Every check of the contract's tables for this job; waits for nothing but the worker's end. Returns its row.

    Call it as soon as the job's end shows. ``log``: what the exported log file must hold, byte for byte.
    """
    job = job_row(platform, job_id)
    assert job["state"] == state
    assert job["attempts"] == 1 and job["completed_at"] > job["started_at"] > job["created_at"]
    assert str(job["correlation_id"]) == job_id
    _check_log_file(platform, job_id, log)
    _check_job_events(platform, job_id, state)
    _check_sagas(platform, job_id)
    _check_worker_ended(platform, job)
    return job


def job_row(platform: RunningPlatform, job_id: str) -> dict[str, Any]:
    """The job's row in ``public.jobs``."""
    [(row,)] = platform.sql("SELECT to_jsonb(jobs) FROM jobs WHERE id = %s", UUID(job_id))
    return row


def _check_log_file(platform: RunningPlatform, job_id: str, log: bytes | None) -> None:
    """There before the end shows, so it is not waited for."""
    [(execution_id, uri, size_bytes, entries, lasting)] = platform.sql(
        "SELECT execution_id, storage_uri, size_bytes, entry_count, expires_at - created_at "
        "FROM job_log_files WHERE job_id = %s",
        UUID(job_id),
    )
    path = Path(unquote(urlsplit(uri).path))
    content = path.read_bytes()
    assert uri.startswith("file:///")
    assert path.is_relative_to(Path(platform.env["HODEI_LOG_DIR"]))
    assert size_bytes == len(content) and lasting > timedelta(days=6)
    if log is not None:
        assert content == log
    if content:
        assert entries > 0 and size_bytes > 0
    executions = platform.sql("SELECT id FROM hodei.executions WHERE job_id = %s", UUID(job_id))
    assert executions == [(execution_id,)]


def _check_job_events(platform: RunningPlatform, job_id: str, state: str) -> None:
    expected = [
        ("JobCreated", None),
        ("JobAssigned", None),
        ("JobAccepted", None),
        ("JobStatusChanged", "RUNNING"),
        ("JobStatusChanged", state),
    ]
    for column in ("aggregate_id", "correlation_id"):
        events = platform.sql(
            "SELECT event_type, payload ->> 'new_state', occurred_at FROM domain_events "
            f"WHERE {column} = %s ORDER BY occurred_at",
            UUID(job_id),
        )
        assert [event[:2] for event in events] == expected, column
        _check_grows([event[2] for event in events])


def _check_sagas(platform: RunningPlatform, job_id: str) -> None:
    def read() -> list[tuple[Any, ...]]:
        return platform.sql(
            "SELECT id, saga_type, state, error_message, completed_at IS NOT NULL FROM sagas "
            "WHERE correlation_id = %s ORDER BY started_at",
            UUID(job_id),
        )

    # A very short job ends while the step that announces its worker is still being written down.
    until(lambda: all(row[2] not in ("PENDING", "IN_PROGRESS") for row in read()), what="the sagas' end")
    sagas = read()
    assert [row[1:] for row in sagas] == [
        ("PROVISIONING", "COMPLETED", None, True),
        ("EXECUTION", "COMPLETED", None, True),
    ]
    for saga_id, saga_type, *_ in sagas:
        names = SAGA_STEPS[saga_type]
        steps = platform.sql(
            "SELECT step_name, state, error_message, started_at IS NOT NULL, completed_at IS NOT NULL "
            "FROM saga_steps WHERE saga_id = %s ORDER BY step_order",
            saga_id,
        )
        assert steps == [(name, "COMPLETED", None, True, True) for name in names]
        audit = platform.sql(
            "SELECT event_type, step_name, occurred_at FROM saga_audit_events WHERE saga_id = %s "
            "ORDER BY occurred_at",
            saga_id,
        )
        expected: list[tuple[str, str | None]] = [("SagaStarted", None)]
        expected += [(kind, name) for name in names for kind in ("StepStarted", "StepCompleted")]
        expected += [("SagaCompleted", None)]
        assert [line[:2] for line in audit] == expected
        _check_grows([line[2] for line in audit])


def _check_worker_ended(platform: RunningPlatform, job: dict[str, Any]) -> None:
    def ended() -> tuple[Any, ...] | None:
        [row] = platform.sql(
            "SELECT state, provider_resource_id, termination_reason, current_job_id, provider_id::text, "
            "terminated_at - (SELECT completed_at FROM jobs WHERE id = %s) FROM workers WHERE id = %s",
            UUID(job["id"]),
            UUID(job["worker_id"]),
        )
        return row if row[0] == "TERMINATED" else None

    found = until(ended, within_s=GONE_WITHIN_S, what="the worker's end")
    assert found is not None
    _, resource_id, reason, current_job_id, provider_id, after = found
    assert resource_id and reason and current_job_id is None
    assert provider_id == job["selected_provider_id"]
    assert after < timedelta(seconds=GONE_WITHIN_S)


def _check_grows(times: list[Any]) -> None:
    assert all(earlier < later for earlier, later in pairwise(times))
