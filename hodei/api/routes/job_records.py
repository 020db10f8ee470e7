"""What is remembered of a job: its log, events, sagas and executions."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.logs import ENTRIES, log_response
from hodei.api.routing import Routes
from hodei.api.schemas.common import JobPath
from hodei.api.schemas.job_out import LogQuery
from hodei.api.schemas.records import EventList, ExecutionList, SagasInFull
from hodei.api.serialise import json_response
from hodei.services import history

routes = Routes("job_records", "JobExecutionService")
LOGS_TAG = "LogStreamService"


@routes.route_of("GET", "/jobs/<job_id>/logs", {200: ENTRIES}, tag=LOGS_TAG)
def read_log(path: JobPath, query: LogQuery) -> Response:
    """Read a job's log

    An array of entries, or with `Accept: text/plain` the text itself.
    """
    return log_response(query, job_id=path.job_id, attempt=query.attempt)


@routes.route_of("GET", "/jobs/<job_id>/events", {200: EventList})
def events(path: JobPath) -> Response:
    """List a job's events, oldest first"""
    return json_response(history.job_events(platform(), path.job_id))


@routes.route_of("GET", "/jobs/<job_id>/sagas", {200: SagasInFull})
def sagas(path: JobPath) -> Response:
    """List a job's sagas"""
    return json_response(history.job_sagas(platform(), path.job_id))


@routes.route_of("GET", "/jobs/<job_id>/executions", {200: ExecutionList})
def executions(path: JobPath) -> Response:
    """List a job's attempts"""
    return json_response(history.job_executions(platform(), path.job_id))
