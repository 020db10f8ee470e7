"""The agents' protocol (``docs/reference/agent-protocol.md``): hundreds of calls a second, so kept lean."""

from __future__ import annotations

from flask import Response, request
from hodei_agent.protocol import FRAMES_CONTENT_TYPE, PROTOCOL_VERSION

from hodei.api.current import platform
from hodei.api.guard import bearer
from hodei.api.routing import PREFIX, Routes
from hodei.api.schemas.agent import (
    Accepting,
    Acknowledged,
    Done,
    FramesQuery,
    Goodbye,
    Heartbeat,
    Inbox,
    InboxQuery,
    Lease,
    Registered,
    Registration,
    Result,
    Started,
)
from hodei.api.schemas.common import ExecutionPath
from hodei.api.serialise import json_response
from hodei.api.validation import whole_body
from hodei.errors import InvalidInput, Unauthorized, UnsupportedMediaType, UpgradeRequired
from hodei.services import agents

routes = Routes("agent", "WorkerAgentService", prefix=f"{PREFIX}/agent", security="worker")

_FRAMES_BODY = {
    "requestBody": {
        "required": True,
        "content": {FRAMES_CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}


@routes.route_of("POST", "/register", {200: Registered}, problems=(404, 409, 426))
def register_agent(body: Registration) -> Response:
    """Spend the one-time token and begin a session"""
    if body.protocol > PROTOCOL_VERSION:
        raise UpgradeRequired()
    token = _token()
    return json_response(agents.register(platform(), body.worker_id, token, body.model_dump(mode="json")))


@routes.route_of("GET", "/inbox", {200: Inbox}, problems=(409, 426))
def poll_inbox(query: InboxQuery) -> Response:
    """Wait for messages; the first call makes the worker READY"""
    messages = agents.poll_inbox(platform(), _agent(), query.after, query.wait_s)
    return json_response({"messages": messages})


@routes.route_of("POST", "/executions/<execution_id>/accept", {200: Done}, problems=(409, 426))
def accept_execution(path: ExecutionPath, body: Accepting) -> Response:
    """Ask, before anything is started, whether the attempt is still wanted"""
    return json_response(agents.accept(platform(), _agent(), path.execution_id, body.fence))


@routes.route_of("POST", "/executions/<execution_id>/started", {200: Done}, problems=(409, 426))
def note_started(path: ExecutionPath, body: Started) -> Response:
    """Say that the job's process is there"""
    return json_response(
        agents.started(platform(), _agent(), path.execution_id, body.fence, body.pid, body.at)
    )


@routes.route_of(
    "POST",
    "/executions/<execution_id>/frames",
    {200: Acknowledged},
    problems=(400, 409, 413, 415, 426),
    openapi_extensions=_FRAMES_BODY,
)
def store_frames(path: ExecutionPath, query: FramesQuery) -> Response:
    """Hand over log frames; they may be sent again"""
    if request.mimetype != FRAMES_CONTENT_TYPE:
        raise UnsupportedMediaType(f"Send frames with Content-Type: {FRAMES_CONTENT_TYPE}.")
    agent = _agent()
    body = whole_body()
    if not body:
        raise InvalidInput("The body holds no frame.")
    return json_response(agents.store_frames(platform(), agent, path.execution_id, query.fence, body))


@routes.route_of("POST", "/executions/<execution_id>/result", {200: Done}, problems=(409, 426))
def report_result(path: ExecutionPath, body: Result) -> Response:
    """Say how the attempt ended; it may be said again"""
    result = body.model_dump(mode="json")
    return json_response(agents.report_result(platform(), _agent(), path.execution_id, body.fence, result))


@routes.route_of("POST", "/heartbeat", {200: Lease}, problems=(409, 426))
def send_heartbeat(body: Heartbeat) -> Response:
    """Say that the agent lives"""
    return json_response(agents.heartbeat(platform(), _agent(), body.model_dump()))


@routes.route_of("POST", "/goodbye", {200: Done}, problems=(409, 426))
def say_goodbye(body: Goodbye) -> Response:
    """Say that the agent leaves"""
    return json_response(agents.goodbye(platform(), _agent(), body.reason))


def _token() -> str:
    version = request.headers.get("Hodei-Protocol", "1")
    if not version.isascii() or not version.isdigit() or len(version) > 6:
        raise InvalidInput("Hodei-Protocol is not a version: this server speaks 1.", field="Hodei-Protocol")
    if int(version) > PROTOCOL_VERSION:
        raise UpgradeRequired()
    token = bearer(request)
    if token is None:
        raise Unauthorized("This address is for agents: send a worker's token as Authorization: Bearer.")
    return token


def _agent() -> agents.AgentIdentity:
    return agents.authenticate(platform(), _token())
