"""Workers as the scheduler shows them: who is online."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import WorkerPath
from hodei.api.schemas.places import Worker, WorkerList, WorkersQuery
from hodei.api.serialise import json_response
from hodei.api.worker_words import as_registered
from hodei.services import workers

routes = Routes("registry", "SchedulerService")


@routes.route_of("GET", "/workers", {200: described(WorkerList, headers=LINK)})
def list_workers(query: WorkersQuery) -> Response:
    """List registered workers"""
    page = workers.list_workers(
        platform(),
        state=[str(state) for state in query.state] if query.state else None,
        provider=query.provider,
        cursor=query.cursor,
        limit=query.limit,
    )
    return page_response(page, [as_registered(worker) for worker in page.items])


@routes.route_of("GET", "/workers/<worker_id>", {200: Worker})
def get_worker(path: WorkerPath) -> Response:
    """Look at a registered worker"""
    return json_response(as_registered(workers.get_worker(platform(), path.worker_id)))
