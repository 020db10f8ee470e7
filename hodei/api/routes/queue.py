"""The queue."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import PageQuery
from hodei.api.schemas.job_out import JobList
from hodei.services import jobs

routes = Routes("queue", "SchedulerService")


@routes.route_of("GET", "/queue", {200: described(JobList, headers=LINK)})
def list_queue(query: PageQuery) -> Response:
    """List the jobs that wait for a worker"""
    page = jobs.list_jobs(
        platform(),
        status=["pending"],
        label=None,
        name=None,
        pipeline_id=None,
        cursor=query.cursor,
        limit=query.limit,
    )
    return page_response(page)
