"""Executions: the attempts of jobs."""

from __future__ import annotations

from flask import Response

from hodei.api.current import OPERATOR, platform
from hodei.api.once import key_of
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import ExecutionPath, OnceHeader
from hodei.api.schemas.places_in import ExecuteIn, ExecuteQuery
from hodei.api.schemas.records import Execution, ExecutionBegun, ExecutionList, ExecutionsQuery
from hodei.api.serialise import json_response
from hodei.services import execute as executing
from hodei.services import history

routes = Routes("executions", "JobExecutionService")

_LOCATION = {"Location": {"description": "The execution's address.", "schema": {"type": "string"}}}


@routes.route_of(
    "POST",
    "/execute",
    {200: described(ExecutionBegun, headers=_LOCATION), 202: described(ExecutionBegun, headers=_LOCATION)},
    problems=(404, 409),
)
def execute_job(header: OnceHeader, query: ExecuteQuery, body: ExecuteIn) -> Response:
    """Run the definition of a job that is held, or of one that has ended

    200 when it runs or has ended, 202 while it waits for a worker; 409 while the job is queued or running.
    """
    begun = executing.execute(
        platform(),
        body.job_id,
        body.command,
        actor=OPERATOR,
        wait_s=query.wait,
        key=key_of("POST /execute", header, body),
    )
    status = 202 if begun["status"] == "pending" else 200
    return json_response(begun, status, headers={"Location": f"/api/v1/executions/{begun['id']}"})


@routes.route_of("GET", "/executions", {200: described(ExecutionList, headers=LINK)})
def list_executions(query: ExecutionsQuery) -> Response:
    """List executions"""
    page = history.list_executions(platform(), query.wanted(), cursor=query.cursor, limit=query.limit)
    return page_response(page)


@routes.route_of("GET", "/executions/<execution_id>", {200: Execution})
def get_execution(path: ExecutionPath) -> Response:
    """Look at an execution"""
    return json_response(history.get_execution(platform(), path.execution_id))
