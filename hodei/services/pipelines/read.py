"""Looking at pipelines and at their runs, and waiting for a run's end."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from hodei.domain.pipeline import NodeState, RunState
from hodei.domain.pipeline_definition import Definition, JobTemplate
from hodei.domain.pipeline_graph import Matrix
from hodei.domain.states import JobState
from hodei.errors import NotFound
from hodei.ports import Platform
from hodei.services.jobs import LOOK_EVERY_S, definition_view, error_view
from hodei.services.paging import Page, decode, page_of
from hodei.storage.transaction import Row, Transaction

PIPELINES = "/api/v1/pipelines"
RUNS = "/api/v1/runs"


def no_pipeline(pipeline_id: UUID) -> NotFound:
    """The error for an id that names none."""
    return NotFound(f"There is no pipeline {pipeline_id}. List them with: hodei pipeline list")


def no_run(run_id: UUID) -> NotFound:
    """The error for an id that names none."""
    return NotFound(f"There is no run {run_id}. List a pipeline's with: hodei pipeline runs NAME")


def summary_view(row: Row) -> dict[str, Any]:
    """A pipeline without its jobs: how many those are; ``job_count`` null: the plain form."""
    base = f"{PIPELINES}/{row.id}"
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "status": row.state.lower(),
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "version": row.version,
        "job_count": row.job_count,
        "links": {"self": base, "runs": f"{base}/runs", "jobs": f"/api/v1/jobs?pipeline_id={row.id}"},
    }


def pipeline_view(row: Row) -> dict[str, Any]:
    """A pipeline in the shape of ``docs/reference/http.md``; ``jobs`` null: the plain form."""
    definition = None if row.definition is None else Definition.from_json(row.definition)
    jobs = None if definition is None else [_job_view(job) for job in definition.jobs]
    return summary_view(Row(row | {"job_count": None if jobs is None else len(jobs)})) | {
        "params": {} if definition is None else row.definition["params"],
        "max_parallel": None if definition is None else definition.max_parallel,
        "jobs": jobs,
    }


def _job_view(job: JobTemplate) -> dict[str, Any]:
    return {
        "key": job.key,
        "needs": list(job.needs),
        "when": job.when.value,
        "matrix": None if job.matrix is None else _matrix_view(job.matrix),
        "name": job.name,
        **definition_view(job.spec),
        "priority": job.priority,
        "labels": job.labels,
    }


def _matrix_view(matrix: Matrix) -> dict[str, Any]:
    """As it is written: the axes, and beside them what is included and excluded."""
    axes: dict[str, Any] = {name: list(values) for name, values in matrix.axes.items()}
    more = {"include": list(matrix.include), "exclude": list(matrix.exclude)}
    return axes | {name: listed for name, listed in more.items() if listed}


def get_pipeline(platform: Platform, pipeline_id: UUID) -> dict[str, Any]:
    """One pipeline. Raises NotFound."""
    with platform.database.glance() as tx:
        return pipeline_view(found_pipeline(tx, pipeline_id))


def found_pipeline(tx: Transaction, pipeline_id: UUID) -> Row:
    """Its row. Raises NotFound."""
    row = tx.row("read_pipeline", id=pipeline_id)
    if row is None:
        raise no_pipeline(pipeline_id)
    return row


def list_pipelines(
    platform: Platform, *, name: str | None = None, cursor: str | None = None, limit: int = 50
) -> Page:
    """A page of pipelines, newest first, without their jobs."""
    before_at, before_id = decode(cursor)
    with platform.database.glance() as tx:
        rows = tx.rows("read_pipelines", name=name, before_at=before_at, before_id=before_id, limit=limit + 1)
    return page_of(rows, limit, summary_view, at="created_at")


def run_view(row: Row) -> dict[str, Any]:
    """A run without its nodes: how many of them are in which state."""
    base = f"{RUNS}/{row.id}"
    counts = row.counts or {}
    return {
        "id": row.id,
        "pipeline_id": row.pipeline_id,
        "pipeline_name": row.pipeline_name,
        "number": row.number,
        "version": row.version,
        "status": row.state.lower(),
        "params": row.params,
        "counts": {state.value.lower(): counts.get(state.value, 0) for state in NodeState},
        "resumed": row.resumed,
        "cancel_requested_at": row.cancel_requested_at,
        "created_at": row.created_at,
        "completed_at": row.completed_at,
        "links": {
            "self": base,
            "pipeline": f"{PIPELINES}/{row.pipeline_id}",
            "follow": f"{base}/follow",
            "jobs": f"/api/v1/jobs?label=hodei.io/run={row.id}",
        },
    }


def node_view(row: Row) -> dict[str, Any]:
    """A node, and how far its job is. One that was submitted shows as what its job is, or as what that makes of it."""
    status = row.state.lower()
    if row.state == NodeState.SUBMITTED and row.job_state is not None:
        status = "failed" if row.job_state == JobState.TIMEOUT else row.job_state.lower()
    error = None if row.job_id is None else error_view(row.error_code, row.error_message, row.job_id)
    return {
        "key": row.key,
        "job_key": row.job_key,
        "needs": row.needs,
        "when": row.condition,
        "matrix": row.matrix,
        "status": status,
        "job_id": row.job_id,
        "try": row.nth_try,
        "attempts": row.attempts or 0,
        "exit_code": row.exit_code,
        "outputs": row.outputs,
        "reason": row.reason,
        "error": error,
        "started_at": row.started_at,
        "ended_at": row.ended_at or row.job_ended_at,
    }


def whole_run(tx: Transaction, run_id: UUID) -> dict[str, Any]:
    """A run with all of its nodes. Raises NotFound."""
    row = tx.row(
        "read_runs", id=run_id, pipeline_id=None, state=None, before_at=None, before_id=None, limit=1
    )
    if row is None:
        raise no_run(run_id)
    nodes = tx.rows("read_nodes", run_id=run_id, key=None)
    return run_view(row) | {"nodes": [node_view(node) for node in nodes]}


def get_run(platform: Platform, run_id: UUID) -> dict[str, Any]:
    """One run, with its nodes. Raises NotFound."""
    with platform.database.begin() as tx:
        return whole_run(tx, run_id)


def list_runs(
    platform: Platform,
    pipeline_id: UUID,
    *,
    status: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """A page of the pipeline's runs, newest first, without their nodes. Raises NotFound."""
    before_at, before_id = decode(cursor)
    with platform.database.glance() as tx:
        found_pipeline(tx, pipeline_id)
        rows = tx.rows(
            "read_runs",
            id=None,
            pipeline_id=pipeline_id,
            state=None if status is None else status.upper(),
            before_at=before_at,
            before_id=before_id,
            limit=limit + 1,
        )
    return page_of(rows, limit, run_view, at="created_at")


def wait_for_run(platform: Platform, run_id: UUID, timeout_s: float) -> dict[str, Any]:
    """The run once it has ended, or as it is after ``timeout_s``. Holds no connection while it waits. Raises NotFound."""
    give_up = time.monotonic() + timeout_s
    with platform.wakeups.listen(f"run:{run_id}") as ear:
        while True:
            with platform.database.glance() as tx:
                state = tx.scalar("read_run_state", id=run_id)
            if state is None:
                raise no_run(run_id)
            remaining = give_up - time.monotonic()
            if state != RunState.RUNNING or remaining <= 0 or platform.wakeups.closing:
                return get_run(platform, run_id)
            ear.wait(min(remaining, LOOK_EVERY_S))
