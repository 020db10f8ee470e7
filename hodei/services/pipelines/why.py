"""What a pipeline has to do with where a job is, in words."""

from __future__ import annotations

from hodei.storage.transaction import Row, Transaction


def of_a_node(tx: Transaction, job: Row) -> list[str]:
    """Of which run of which pipeline it is a part."""
    if job.pipeline_run_id is None:
        return []
    run = tx.row("run_of_job", run_id=job.pipeline_run_id)
    if run is None:
        return [f"It was node {job.pipeline_node} of a run of a pipeline that was deleted."]
    return [
        f"It is node {job.pipeline_node} of run {job.pipeline_run_id}, number {run.number} of pipeline {run.name}, "
        f"which is {run.state}."
    ]
