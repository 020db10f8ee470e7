"""Pipelines: making and changing them, running them, and following their runs."""

from __future__ import annotations

from typing import Any

from flask import Response

from hodei.api.current import OPERATOR, platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import OnceHeader
from hodei.api.schemas.pipelines_in import (
    PipelineChange,
    PipelineIn,
    PipelinePath,
    PipelinesQuery,
    RunIn,
    RunPath,
    RunQuery,
    RunsQuery,
    file_schema,
)
from hodei.api.schemas.pipelines_out import Pipeline, PipelineList, PipelineRunList, WholeRun
from hodei.api.serialise import json_response, to_json
from hodei.services.idempotency import RequestKey
from hodei.services.pipelines import change, create, follow, read, runs

routes = Routes("pipelines", "JobExecutionService")

EVENTS = "text/event-stream"
_DELETED = {"description": "It is gone, with its runs; the jobs that they made stay."}


def _location(what: str) -> dict[str, Any]:
    return {"Location": {"description": f"The {what}'s address.", "schema": {"type": "string"}}}


@routes.route_of(
    "POST", "/pipelines", {201: described(Pipeline, headers=_location("pipeline"))}, problems=(409,)
)
def create_pipeline(header: OnceHeader, body: PipelineIn) -> Response:
    """Make a pipeline

    With jobs in a graph, which runs of it go through; or the plain form, to which jobs are attached by `pipeline_id`. 409 when
    another pipeline has the name.
    """
    key = None
    if header.key is not None:
        key = RequestKey.of("POST /pipelines", header.key, body.model_dump_json().encode())
    made = create.create_pipeline(platform(), body.to_new_pipeline(), actor=OPERATOR, key=key)
    return json_response(made, 201, headers={"Location": f"{read.PIPELINES}/{made['id']}"})


@routes.route_of("GET", "/pipelines", {200: described(PipelineList, headers=LINK)})
def list_pipelines(query: PipelinesQuery) -> Response:
    """List pipelines"""
    page = read.list_pipelines(platform(), name=query.name, cursor=query.cursor, limit=query.limit)
    return page_response(page)


_SCHEMA: dict[str, Any] = {
    "description": "A JSON Schema.",
    "content": {"application/schema+json": {"schema": {"type": "object"}}},
}


@routes.route_of("GET", "/pipelines/schema", {200: _SCHEMA})
def get_schema() -> Response:
    """Get the JSON Schema of a pipeline's file"""
    return Response(to_json(file_schema()), content_type="application/schema+json")


@routes.route_of("GET", "/pipelines/<pipeline:pipeline_id>", {200: Pipeline})
def get_pipeline(path: PipelinePath) -> Response:
    """Look at a pipeline"""
    return json_response(read.get_pipeline(platform(), path.pipeline_id))


@routes.route_of("PATCH", "/pipelines/<pipeline:pipeline_id>", {200: Pipeline}, problems=(409,))
def change_pipeline(path: PipelinePath, body: PipelineChange) -> Response:
    """Change a pipeline

    `jobs` takes the place of all jobs, with their secrets. Runs keep the jobs that they began with. 409 when another
    pipeline has the name.
    """
    changed = change.change_pipeline(platform(), path.pipeline_id, body.to_changes(), actor=OPERATOR)
    return json_response(changed)


@routes.route_of("DELETE", "/pipelines/<pipeline:pipeline_id>", {204: _DELETED}, problems=(409,))
def delete_pipeline(path: PipelinePath) -> Response:
    """Delete a pipeline with its runs, none of which is going"""
    change.delete_pipeline(platform(), path.pipeline_id, actor=OPERATOR)
    return Response(status=204)


@routes.route_of(
    "POST",
    "/pipelines/<pipeline:pipeline_id>/runs",
    {201: described(WholeRun, headers=_location("run"))},
    problems=(409,),
)
def start_run(header: OnceHeader, path: PipelinePath, body: RunIn) -> Response:
    """Run a pipeline

    409 when it has no jobs of its own, or is disabled.
    """
    key = None
    if header.key is not None:
        scope = f"POST /pipelines/{path.pipeline_id}/runs"
        key = RequestKey.of(scope, header.key, body.model_dump_json().encode())
    run = runs.start_run(platform(), path.pipeline_id, body.params, actor=OPERATOR, key=key)
    return json_response(run, 201, headers={"Location": f"{read.RUNS}/{run['id']}"})


@routes.route_of(
    "GET", "/pipelines/<pipeline:pipeline_id>/runs", {200: described(PipelineRunList, headers=LINK)}
)
def list_runs(path: PipelinePath, query: RunsQuery) -> Response:
    """List a pipeline's runs"""
    status = None if query.status is None else str(query.status)
    page = read.list_runs(platform(), path.pipeline_id, status=status, cursor=query.cursor, limit=query.limit)
    return page_response(page)


@routes.route_of("GET", "/runs/<run_id>", {200: WholeRun})
def get_run(path: RunPath, query: RunQuery) -> Response:
    """Look at a run and its nodes, now or when it has ended"""
    if query.wait:
        return json_response(read.wait_for_run(platform(), path.run_id, query.wait))
    return json_response(read.get_run(platform(), path.run_id))


_STREAM: dict[str, Any] = {
    "description": "Server-Sent Events: `run` and `node`, each when something of it has changed, and `end`.",
    "content": {EVENTS: {"schema": {"type": "string"}}},
}


@routes.route_of("GET", "/runs/<run_id>/follow", {200: _STREAM})
def follow_run(path: RunPath) -> Response:
    """Follow a run

    First all that there is, then what changes: `run` (without nodes), `node`, each as `GET /runs/{id}` has it, and at last
    `end` with the run. Open it again where it breaks off: what is told again is what is true now.
    """
    here = platform()
    first = follow.begin(here, path.run_id)
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    body = follow.follow(here, path.run_id, first)
    return Response(body, content_type=f"{EVENTS}; charset=utf-8", headers=headers)


@routes.route_of("POST", "/runs/<run_id>/cancel", {202: WholeRun}, problems=(409,))
def cancel_run(path: RunPath) -> Response:
    """Cancel a run

    What has no job yet gets none, and the jobs that are going are cancelled as any job is. The run is `cancelled` when nothing of
    it lives any more. Asked again it answers the same; 409 when the run has ended otherwise.
    """
    return json_response(runs.cancel_run(platform(), path.run_id, actor=OPERATOR), 202)


@routes.route_of("POST", "/runs/<run_id>/resume", {202: WholeRun}, problems=(409,))
def resume_run(header: OnceHeader, path: RunPath) -> Response:
    """Go on with a run that failed or was cancelled

    What succeeded is kept, with its outputs; everything else is done again. 409 while it is going, and when it has succeeded.
    """
    key = None
    if header.key is not None:
        key = RequestKey.of(f"POST /runs/{path.run_id}/resume", header.key, b"")
    return json_response(runs.resume_run(platform(), path.run_id, actor=OPERATOR, key=key), 202)
