"""The queue."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.job_out import JobList, QueueQuery
from hodei.services import jobs

routes = Routes("queue", "SchedulerService")


@routes.route_of("GET", "/queue", {200: described(JobList, headers=LINK)})
def list_queue(query: QueueQuery) -> Response:
    """List the jobs that wait for a worker, the next one first

    `queue_position` is a job's place among those that wait for the same provider.
    """
    page = jobs.list_queue(platform(), query.wanted(), cursor=query.cursor, limit=query.limit)
    return page_response(page)
