"""What is remembered of a job: its events, sagas and executions."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import JobPath, PageQuery
from hodei.api.schemas.records import EventList, ExecutionList, SagasInFull
from hodei.services import history

routes = Routes("job_records", "JobExecutionService")


@routes.route_of("GET", "/jobs/<job_id>/events", {200: described(EventList, headers=LINK)})
def list_job_events(path: JobPath, query: PageQuery) -> Response:
    """List a job's events, oldest first"""
    page = history.job_events(platform(), path.job_id, cursor=query.cursor, limit=query.limit)
    return page_response(page)


@routes.route_of("GET", "/jobs/<job_id>/sagas", {200: described(SagasInFull, headers=LINK)})
def list_job_sagas(path: JobPath, query: PageQuery) -> Response:
    """List a job's sagas, oldest first"""
    page = history.job_sagas(platform(), path.job_id, cursor=query.cursor, limit=query.limit)
    return page_response(page)


@routes.route_of("GET", "/jobs/<job_id>/executions", {200: described(ExecutionList, headers=LINK)})
def list_job_executions(path: JobPath, query: PageQuery) -> Response:
    """List a job's attempts, oldest first"""
    page = history.job_executions(platform(), path.job_id, cursor=query.cursor, limit=query.limit)
    return page_response(page)
