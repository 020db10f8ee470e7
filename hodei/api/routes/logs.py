"""What jobs wrote: of a job at the orchestrator, of an execution at the worker manager."""

from __future__ import annotations

from flask import Response

from hodei.api.logs import ENTRIES, log_response
from hodei.api.routing import Routes
from hodei.api.schemas.common import ExecutionPath, JobPath
from hodei.api.schemas.logs import ExecutionLogQuery, LogQuery, PlaceHeader
from hodei.services.logs import Which

job_routes = Routes("job_logs", "LogStreamService")
execution_routes = Routes("execution_logs", "LogStreamService")


@job_routes.route_of("GET", "/jobs/<job_id>/logs", {200: ENTRIES}, problems=(410,))
def read_job_log(path: JobPath, query: LogQuery, header: PlaceHeader) -> Response:
    """Read or follow a job's log

    An array of entries; with `Accept: text/plain` the text, with `raw=1` the exact bytes, with `follow=1` Server-Sent Events.
    """
    which = Which(job_id=path.job_id, attempt=query.attempt)
    return log_response(query, which, header.parts())


@execution_routes.route_of("GET", "/executions/<execution_id>/logs", {200: ENTRIES}, problems=(410,))
def read_execution_log(path: ExecutionPath, query: ExecutionLogQuery, header: PlaceHeader) -> Response:
    """Read or follow an execution's log

    An array of entries; with `Accept: text/plain` the text, with `raw=1` the exact bytes, with `follow=1` Server-Sent Events.
    """
    return log_response(query, Which(execution_id=path.execution_id), header.parts())
