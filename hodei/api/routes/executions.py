"""Executions: the attempts of jobs."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.logs import ENTRIES, log_response
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import ExecutionPath
from hodei.api.schemas.job_out import ExecutionLogQuery
from hodei.api.schemas.records import Execution, ExecutionList, ExecutionsQuery
from hodei.api.serialise import json_response
from hodei.services import history

routes = Routes("executions", "JobExecutionService")


@routes.route_of("GET", "/executions", {200: described(ExecutionList, headers=LINK)})
def list_executions(query: ExecutionsQuery) -> Response:
    """List executions"""
    page = history.list_executions(
        platform(),
        job_id=query.job_id,
        status=None if query.status is None else str(query.status),
        cursor=query.cursor,
        limit=query.limit,
    )
    return page_response(page)


@routes.route_of("GET", "/executions/<execution_id>", {200: Execution})
def get_execution(path: ExecutionPath) -> Response:
    """Look at an execution"""
    return json_response(history.get_execution(platform(), path.execution_id))


@routes.route_of("GET", "/executions/<execution_id>/logs", {200: ENTRIES}, tag="LogStreamService")
def read_log(path: ExecutionPath, query: ExecutionLogQuery) -> Response:
    """Read an execution's log

    An array of entries, or with `Accept: text/plain` the text itself.
    """
    return log_response(query, execution_id=path.execution_id)
