"""Workers as worker-manager shows them: by where they are in their life."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import WorkerPath
from hodei.api.schemas.places import Worker, WorkerList, WorkersQuery, WorkerStatus
from hodei.api.serialise import json_response
from hodei.services import workers

routes = Routes("workers", "WorkerAgentService")

_STATUS_FIELDS = ("id", "state", "status", "current_job_id", "last_heartbeat")


@routes.route_of("GET", "/workers", {200: described(WorkerList, headers=LINK)})
def list_workers(query: WorkersQuery) -> Response:
    """List workers"""
    page = workers.list_workers(
        platform(),
        state=[str(state) for state in query.state] if query.state else None,
        provider=query.provider,
        cursor=query.cursor,
        limit=query.limit,
    )
    return page_response(page)


@routes.route_of("GET", "/workers/<worker_id>", {200: Worker})
def get_worker(path: WorkerPath) -> Response:
    """Look at a worker"""
    return json_response(workers.get_worker(platform(), path.worker_id))


@routes.route_of("GET", "/workers/<worker_id>/status", {200: WorkerStatus})
def get_status(path: WorkerPath) -> Response:
    """Ask only how a worker is"""
    worker = workers.get_worker(platform(), path.worker_id)
    return json_response({name: worker[name] for name in _STATUS_FIELDS})
