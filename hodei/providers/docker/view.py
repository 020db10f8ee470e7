"""What Docker says of a container, in the words of the contract. Pure."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.providers.contract import ResourceState, ResourceView
from hodei.providers.docker import container
from hodei.providers.exits import EXIT_NO_PYTHON, agent_exit

EXIT_KILLED = 137
_STATES = {
    "created": ResourceState.STARTING,
    "running": ResourceState.RUNNING,
    "paused": ResourceState.RUNNING,
    "restarting": ResourceState.RUNNING,
    "removing": ResourceState.EXITED,
    "exited": ResourceState.EXITED,
    "dead": ResourceState.EXITED,
}
_EXITED = re.compile(r"Exited \((\d+)\)")


def gone(worker_id: UUID) -> ResourceView:
    return ResourceView(worker_id=worker_id, state=ResourceState.GONE)


def from_inspect(worker_id: UUID, found: dict[str, Any]) -> ResourceView:
    """A view from ``GET /containers/{id}/json``."""
    status = found["State"]
    state = _STATES.get(status["Status"], ResourceState.RUNNING)
    if state is ResourceState.STARTING and status.get("Error"):
        state = ResourceState.EXITED  # the runtime refused it: it will not start any more
    exit_code = status["ExitCode"] if state is ResourceState.EXITED else None
    failure = None
    if state is ResourceState.EXITED:
        failure = exit_failure(
            image=found["Config"]["Image"],
            exit_code=exit_code,
            out_of_memory=bool(status.get("OOMKilled")),
            error=status.get("Error") or "",
        )
    return ResourceView(
        worker_id=worker_id, state=state, resource_id=found["Id"], exit_code=exit_code, failure=failure
    )


def from_list(entry: dict[str, Any]) -> ResourceView | None:
    """A view from a row of ``GET /containers/json``; None when the labels name no worker."""
    try:
        worker_id = UUID((entry.get("Labels") or {})[container.WORKER_ID])
    except (KeyError, ValueError):
        return None
    state = _STATES.get(entry["State"], ResourceState.RUNNING)
    ended = _EXITED.match(entry.get("Status") or "")
    exit_code = int(ended[1]) if ended and state is ResourceState.EXITED else None
    failure = None
    if state is ResourceState.EXITED:
        failure = exit_failure(image=entry["Image"], exit_code=exit_code, out_of_memory=False, error="")
    return ResourceView(
        worker_id=worker_id, state=state, resource_id=entry["Id"], exit_code=exit_code, failure=failure
    )


def exit_failure(*, image: str, exit_code: int | None, out_of_memory: bool, error: str) -> Failure | None:
    """Why the container ended, when that is known.

    Docker says ``OOMKilled`` also when only a child of the agent was taken; then the agent lives, reports its
    job's result and leaves with a code of its own. Only when the agent itself was killed is it the worker's
    end.
    """
    if out_of_memory and exit_code == EXIT_KILLED:
        return Failure(
            code="ERR_1013", message="The worker used more memory than its limit, and the kernel ended it."
        )
    if exit_code == EXIT_NO_PYTHON:
        return no_python(image)
    if error:
        return Failure(code="ERR_1010", message=f"The container could not be started: {error}")
    return agent_exit(exit_code)


def no_python(image: str) -> Failure:
    return Failure(
        code="ERR_1010",
        message=f"The image {image} has no Python 3.8 or later; "
        "use an image that has one, or build yours on the worker image.",
    )
