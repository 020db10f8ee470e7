"""Workers as the scheduler shows them: who is entered, and who is online. Self-hosted ones are entered here."""

from __future__ import annotations

from typing import Any

from flask import Response

from hodei.api.current import OPERATOR, platform
from hodei.api.once import key_of
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import OnceHeader, WorkerPath
from hodei.api.schemas.places import EnteredWorker, RegisteredWorker, RegisteredWorkerList, WorkersQuery
from hodei.api.schemas.places_in import WorkerEntryIn
from hodei.api.serialise import json_response
from hodei.api.worker_words import as_registered
from hodei.services import self_hosted, workers

routes = Routes("registry", "SchedulerService")


@routes.route_of("POST", "/workers", {200: EnteredWorker}, problems=(409,))
def register_worker(header: OnceHeader, body: WorkerEntryIn) -> Response:
    """Register a self-hosted worker

    The answer holds, this once, the token with which its agent is started: `hodei-agent --server URL --token TOKEN`.
    It takes the jobs that require its type: `required_labels: {"type": …}`.
    """
    entered = self_hosted.enter_worker(
        platform(), body.type, actor=OPERATOR, key=key_of("POST /workers (scheduler)", header, body)
    )
    return json_response(_shown(entered))


@routes.route_of("GET", "/workers", {200: described(RegisteredWorkerList, headers=LINK)})
def list_registered_workers(query: WorkersQuery) -> Response:
    """List registered workers"""
    page = workers.list_workers(platform(), query.wanted(), cursor=query.cursor, limit=query.limit)
    return page_response(page, [_shown(worker) for worker in page.items])


@routes.route_of("GET", "/workers/<worker_id>", {200: RegisteredWorker})
def get_registered_worker(path: WorkerPath) -> Response:
    """Look at a registered worker"""
    return json_response(_shown(workers.get_worker(platform(), path.worker_id)))


@routes.route_of("POST", "/workers/<worker_id>/heartbeat", {200: RegisteredWorker}, problems=(409,))
def note_worker_heartbeat(path: WorkerPath) -> Response:
    """Say that a registered worker is there

    For the time before its agent is started: once that has registered, its own heartbeats count, and this changes nothing.
    409 when the worker has ended.
    """
    return json_response(_shown(self_hosted.note_heard_of(platform(), path.worker_id)))


def _shown(worker: dict[str, Any]) -> dict[str, Any]:
    return as_registered(worker, lost_after_s=platform().settings.worker_lost_after)
