"""Pipelines of a :class:`support.core.Core`, and what a test does with their runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from hodei.domain.job import JobSpec
from hodei.domain.pipeline import When
from hodei.domain.pipeline_definition import Definition, JobTemplate, Param
from hodei.domain.pipeline_graph import Matrix
from hodei.services.pipelines.attend import attend_runs
from hodei.services.pipelines.create import NewPipeline, create_pipeline
from hodei.services.pipelines.runs import start_run
from hodei.storage.transaction import Row
from support.core import Core


def job(
    key: str,
    *needs: str,
    when: str = "success",
    matrix: Mapping[str, tuple[str, ...]] | None = None,
    labels: dict[str, str] | None = None,
    name: str | None = None,
    priority: int = 0,
    secrets: tuple[str, ...] = (),
    **spec: Any,
) -> JobTemplate:
    """A job of a pipeline at the provider ``a``."""
    what = {"command": "true", "provider": "a", "secret_names": secrets} | spec
    axes = None if matrix is None else Matrix(axes=dict(matrix))
    return JobTemplate(
        key=key, needs=needs, when=When(when), matrix=axes, spec=JobSpec(**what), labels=labels or {}, name=name,
        priority=priority,
    )  # fmt: skip


def pipeline(
    core: Core,
    *jobs: JobTemplate,
    name: str = "p",
    params: dict[str, Param] | None = None,
    max_parallel: int | None = None,
    secrets: dict[str, dict[str, str]] | None = None,
) -> UUID:
    definition = Definition(jobs=jobs, params=params or {}, max_parallel=max_parallel)
    new = NewPipeline(name=name, definition=definition, secrets=secrets or {})
    return create_pipeline(core.platform, new, actor="test")["id"]


def run(core: Core, *jobs: JobTemplate, params: Mapping[str, str] | None = None, **more: Any) -> UUID:
    """A run of a pipeline of these jobs, that nobody has looked at yet."""
    made = pipeline(core, *jobs, **more)
    core_run = start_run(core.platform, made, params or {}, actor="test")
    return UUID(str(core_run["id"]))


def tick(core: Core) -> int:
    """What a clock does in one round."""
    return attend_runs(core.platform)


def nodes(core: Core, run_id: UUID) -> dict[str, Row]:
    rows = core.sql("SELECT * FROM hodei.pipeline_nodes WHERE run_id = :id ORDER BY number", id=run_id)
    return {row.key: row for row in rows}


def states(core: Core, run_id: UUID) -> dict[str, str]:
    return {key: node.state for key, node in nodes(core, run_id).items()}


def state_of(core: Core, run_id: UUID) -> str:
    return core.sql("SELECT state FROM hodei.pipeline_runs WHERE id = :id", id=run_id)[0].state


def end_node(
    core: Core, run_id: UUID, key: str, state: str = "SUCCEEDED", outputs: dict[str, str] | None = None
) -> None:
    """As if its job had run."""
    core.sql(
        "UPDATE jobs SET state = :state, completed_at = clock_timestamp(), error_message = :message,"
        " result = jsonb_build_object('outputs', CAST(:outputs AS jsonb)) WHERE id = :id",
        id=nodes(core, run_id)[key].job_id,
        state=state,
        message=None if state == "SUCCEEDED" else f"It ended {state}.",
        outputs=json.dumps(outputs or {}),
    )


def events(core: Core, run_id: UUID) -> list[str]:
    return [row.event_type for row in _events(core, run_id)]


def told(core: Core, run_id: UUID, kind: str) -> list[dict[str, Any]]:
    return [row.payload for row in _events(core, run_id) if row.event_type == kind]


def _events(core: Core, run_id: UUID) -> list[Row]:
    return core.sql(
        "SELECT event_type, payload FROM domain_events WHERE aggregate_id = :id ORDER BY occurred_at",
        id=run_id,
    )


def advance_without_end(database_url: str, folder: Path) -> None:
    """A clock's pipelines loop without its lease, round after round; the whole of a process that is to be killed."""
    core = Core(database_url, folder)
    while True:
        attend_runs(core.platform)
