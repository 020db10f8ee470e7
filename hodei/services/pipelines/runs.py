"""Starting, cancelling and resuming runs. What follows is :mod:`hodei.services.pipelines.advance`'s."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from hodei.domain.ids import new_id
from hodei.domain.pipeline import PipelineState, RunState
from hodei.domain.pipeline_definition import Definition
from hodei.domain.pipeline_graph import Graph
from hodei.errors import Conflict, InvalidInput
from hodei.ports import Platform
from hodei.services.idempotency import RequestKey, once
from hodei.services.pipelines.advance import told_to_advance
from hodei.services.pipelines.read import no_pipeline, no_run, whole_run
from hodei.storage.transaction import Row, Transaction


def start_run(
    platform: Platform,
    pipeline_id: UUID,
    params: Mapping[str, str],
    *,
    actor: str,
    key: RequestKey | None = None,
) -> dict[str, Any]:
    """Begin a run of the pipeline as it is now; returns it with its nodes. It is safe then, with or without a broker.

    With ``key``, a request that is sent again gets the first answer, and there is one run. Raises NotFound, InvalidInput for
    params that the pipeline does not have or misses, Conflict for a pipeline without jobs, or one that is disabled.
    """
    with platform.database.begin() as tx:
        return once(tx, key, lambda: _start(platform, tx, pipeline_id, params, actor))


def _start(
    platform: Platform, tx: Transaction, pipeline_id: UUID, params: Mapping[str, str], actor: str
) -> dict[str, Any]:
    pipeline = tx.row("pipeline_lock", id=pipeline_id)
    if pipeline is None:
        raise no_pipeline(pipeline_id)
    if pipeline.definition is None:
        raise Conflict(
            "The pipeline has no jobs of its own to run: give it some (PATCH, with jobs). Jobs that are attached to it by "
            "pipeline_id run when they are submitted, executed or scheduled."
        )
    if pipeline.state == PipelineState.DISABLED:
        raise Conflict("The pipeline is disabled: no run of it begins until its status is active again.")
    definition = Definition.from_json(pipeline.definition)
    values = read_params(definition, params)
    graph = definition.check()
    run_id, number = new_id(), tx.scalar("pipeline_next_run", id=pipeline_id)
    tx.execute(
        "run_insert",
        id=run_id,
        pipeline_id=pipeline_id,
        number=number,
        version=pipeline.version,
        params=values,
        max_parallel=definition.max_parallel,
        nodes=len(graph.nodes),
    )
    _store_graph(tx, run_id, definition, graph)
    payload = {
        "pipeline_id": str(pipeline_id),
        "number": number,
        "version": pipeline.version,
        "nodes": len(graph.nodes),
        "params": sorted(values),
    }
    tx.record("pipeline_run", run_id, "PipelineRunStarted", payload, actor=actor)
    told_to_advance(platform, tx, run_id)
    return whole_run(tx, run_id)


def read_params(definition: Definition, given: Mapping[str, str]) -> dict[str, str]:
    """A value for every parameter. Raises InvalidInput for one that is not known, or is missing."""
    for name in given:
        if name not in definition.params:
            near = difflib.get_close_matches(name, definition.params, n=1)
            known = f"It has: {', '.join(definition.params)}." if definition.params else "It has none."
            hint = f"Did you mean {near[0]}?" if near else known
            raise InvalidInput(f"The pipeline has no parameter {name}. {hint}", field=f"params.{name}")
    for name, param in definition.params.items():
        if param.required and name not in given:
            raise InvalidInput(f"The parameter {name} is missing.", field=f"params.{name}")
    return {name: given.get(name, param.default or "") for name, param in definition.params.items()}


def _store_graph(tx: Transaction, run_id: UUID, definition: Definition, graph: Graph) -> None:
    """The run's own copy of the jobs, its nodes and edges: three statements, however many there are."""
    jobs = [{"key": job.key, "template": job.to_json()} for job in definition.jobs]
    tx.execute("run_jobs_insert", run_id=run_id, jobs=json.dumps(jobs))
    needs = Counter(by for _, by in graph.edges)
    nodes = [
        asdict(node) | {"condition": node.when.value, "open_needs": needs[node.number]}
        for node in graph.nodes
    ]
    tx.execute("nodes_insert", run_id=run_id, nodes=json.dumps(nodes))
    needed, by = [edge[0] for edge in graph.edges], [edge[1] for edge in graph.edges]
    tx.execute("edges_insert", run_id=run_id, needed=needed, by=by)


def cancel_run(platform: Platform, run_id: UUID, *, actor: str) -> dict[str, Any]:
    """Note the wish and return the run: what has no job yet gets none, and every job that is going is cancelled.

    Asked again, also after it is CANCELLED, it answers the same. Raises NotFound, and Conflict when the run has ended otherwise.
    """
    with platform.database.begin() as tx:
        run = _locked(tx, run_id)
        if run.state not in (RunState.RUNNING, RunState.CANCELLED):
            raise Conflict(f"The run has ended already: it is {run.state}.", run_status=run.state.lower())
        if tx.execute("run_request_cancel", id=run_id):
            tx.record("pipeline_run", run_id, "PipelineRunCancelRequested", {}, actor=actor)
            told_to_advance(platform, tx, run_id)
        return whole_run(tx, run_id)


def resume_run(
    platform: Platform, run_id: UUID, *, actor: str, key: RequestKey | None = None
) -> dict[str, Any]:
    """Do again what did not succeed, each node with a further try; what succeeded is kept, with its outputs.

    It runs the jobs that the run began with, with the secrets that the pipeline has now. With ``key``, a request that is sent
    again gets the first answer. Raises NotFound, and Conflict for a run that is going or has succeeded.
    """
    with platform.database.begin() as tx:
        return once(tx, key, lambda: _resume(platform, tx, run_id, actor))


def _resume(platform: Platform, tx: Transaction, run_id: UUID, actor: str) -> dict[str, Any]:
    run = _locked(tx, run_id)
    if not tx.execute("run_set_running_again", id=run_id):
        said = "wait for its end" if run.state == RunState.RUNNING else "start another one"
        raise Conflict(f"The run is {run.state}: {said}.", run_status=run.state.lower())
    again = tx.rows("nodes_set_waiting_again", run_id=run_id)
    tx.execute("nodes_count_needs", run_id=run_id)
    payload = {"nodes": len(again), "old_state": run.state, "resumed": run.resumed + 1}
    tx.record("pipeline_run", run_id, "PipelineRunResumed", payload, actor=actor)
    told_to_advance(platform, tx, run_id)
    return whole_run(tx, run_id)


def _locked(tx: Transaction, run_id: UUID) -> Row:
    run = tx.row("run_lock", id=run_id)
    if run is None:
        raise no_run(run_id)
    return run
