"""Workers as worker-manager shows them: by where they are in their life."""

from __future__ import annotations

from flask import Response

from hodei.api.current import OPERATOR, platform
from hodei.api.once import key_of
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import OnceHeader, WorkerPath
from hodei.api.schemas.places import Worker, WorkerList, WorkersQuery, WorkerStatus
from hodei.api.schemas.places_in import StartQuery, WorkerIn
from hodei.api.serialise import json_response
from hodei.services import worker_admin, workers

routes = Routes("workers", "WorkerAgentService")

_LOCATION = {"Location": {"description": "The worker's address.", "schema": {"type": "string"}}}
_STATUS_FIELDS = ("id", "state", "status", "current_job_id", "last_heartbeat")


@routes.route_of("GET", "/workers", {200: described(WorkerList, headers=LINK)})
def list_workers(query: WorkersQuery) -> Response:
    """List workers"""
    page = workers.list_workers(platform(), query.wanted(), cursor=query.cursor, limit=query.limit)
    return page_response(page)


@routes.route_of(
    "POST",
    "/workers",
    {200: described(Worker, headers=_LOCATION), 202: described(Worker, headers=_LOCATION)},
    problems=(409,),
)
def start_worker(header: OnceHeader, query: StartQuery, body: WorkerIn) -> Response:
    """Make a worker by hand

    It takes jobs one after the other, and is ended when it had none for a while. 200 when it is connected, 202 when that
    takes longer than `wait`; 409 when no provider can take it, or it cannot be made.
    """
    worker = worker_admin.start_worker(
        platform(),
        body.to_new_worker(),
        actor=OPERATOR,
        wait_s=query.wait,
        key=key_of("POST /workers", header, body),
    )
    status = 202 if worker["status"] == "starting" else 200
    return json_response(worker, status, headers={"Location": f"/api/v1/workers/{worker['id']}"})


@routes.route_of("GET", "/workers/<worker_id>", {200: Worker})
def get_worker(path: WorkerPath) -> Response:
    """Look at a worker"""
    return json_response(worker_admin.look_at(platform(), path.worker_id))


@routes.route_of("DELETE", "/workers/<worker_id>", {202: Worker}, problems=(409,))
def delete_worker(path: WorkerPath) -> Response:
    """End a worker, as its `stop`"""
    return _stopped(path)


@routes.route_of("POST", "/workers/<worker_id>/stop", {202: Worker}, problems=(409,))
def stop_worker(path: WorkerPath) -> Response:
    """End a worker now

    What runs on it is stopped within its grace, and is tried again elsewhere. It is `stopped` when nothing of it is left.
    """
    return _stopped(path)


@routes.route_of("POST", "/workers/<worker_id>/drain", {202: Worker}, problems=(409,))
def drain_worker(path: WorkerPath) -> Response:
    """Let a worker finish its job, give it no other, and end it then"""
    return json_response(worker_admin.drain_worker(platform(), path.worker_id, actor=OPERATOR), 202)


def _stopped(path: WorkerPath) -> Response:
    return json_response(worker_admin.stop_worker(platform(), path.worker_id, actor=OPERATOR), 202)


@routes.route_of("GET", "/workers/<worker_id>/status", {200: WorkerStatus})
def get_worker_status(path: WorkerPath) -> Response:
    """Ask only how a worker is"""
    worker = worker_admin.look_at(platform(), path.worker_id)
    return json_response({name: worker[name] for name in _STATUS_FIELDS})
