"""A blueprint whose routes validate themselves by their annotations and document themselves for OpenAPI.

A view takes ``path``, ``query`` and ``body`` by annotation; :mod:`hodei.api.validation` fills them.
flask-openapi3's own validation is left out: it builds a JSON schema on every request and takes any body.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, get_type_hints

from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from hodei.api.schemas.common import Problem
from hodei.api.validation import body_as, header_as, path_as, query_as

PREFIX = "/api/v1"

TAGS = {
    "JobExecutionService": "Submit jobs, follow them, ask why they are where they are.",
    "WorkerAgentService": "What the agent inside a worker calls, and what the platform knows of workers.",
    "SchedulerService": "The queue, schedules and the worker registry.",
    "ProviderManagementService": "Where workers are made: Docker, Kubernetes, processes.",
    "MetricsService": "Health, numbers and this description.",
    "LogStreamService": "What jobs wrote.",
}

_REASONS = {
    400: "The body is not valid JSON, or what was sent is not HTTP.",
    401: "The token is missing or wrong.",
    403: "The Host or the origin of the request is not allowed.",
    404: "There is no such thing.",
    408: "The request came too slowly and was given up.",
    409: "The state of the thing does not allow this; code `stale_attempt`: the attempt was superseded.",
    410: "It was there and has expired.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body has another content type than this address takes.",
    422: "The request is not valid; `field` names what is wrong.",
    431: "The headers are too large.",
    426: "The agent speaks a newer protocol than this server.",
    500: "Something went wrong in the server.",
    503: "The database cannot be reached.",
}
_REQUEST_ID = {
    "X-Request-Id": {"description": "The request's id in the server's log.", "schema": {"type": "string"}}
}
LINK = {
    "Link": {"description": 'The next page, rel="next"; absent on the last.', "schema": {"type": "string"}}
}


class Routes(APIBlueprint):
    """Routes of one resource under ``/api/v1``. ``tag`` is one of the contract's six."""

    def __init__(self, name: str, tag: str, *, prefix: str = PREFIX, security: str = "operator") -> None:
        super().__init__(
            name,
            __name__,
            url_prefix=prefix,
            abp_security=[{security: []}] if security else None,
            operation_id_callback=_operation_id,
        )
        self.tag = tag
        self.models: dict[type[BaseModel], str] = {Problem: "serialization"}

    def route_of(
        self,
        method: str,
        rule: str,
        answers: dict[int, Any],
        *,
        problems: tuple[int, ...] = (),
        tag: str | None = None,
        **options: Any,
    ) -> Callable[[Callable], Callable]:
        """Add a route. ``answers`` maps a status to a model or a response object."""

        def decorate(view: Callable) -> Callable:
            kinds = _kinds(view)
            responses = {status: self._answer(answer) for status, answer in answers.items()}
            for status in sorted({*_usual_problems(kinds), *problems} - set(responses)):
                responses[status] = _problem_answer(status)
            if "body" in kinds:
                self.models[kinds["body"]] = "validation"
            verb = getattr(self, method.lower())
            name = tag or self.tag
            tags = [Tag(name=name, description=TAGS[name])]
            verb(rule, responses=responses, tags=tags, **options)(_validating(view, kinds))
            return view

        return decorate

    def _answer(self, answer: Any) -> dict[str, Any]:
        if isinstance(answer, dict):
            self.models |= dict.fromkeys(answer.get("models", ()), "serialization")
            return {name: value for name, value in answer.items() if name != "models"}
        return self._answer(described(answer))


def described(
    model: type[BaseModel], *, headers: dict[str, Any] | None = None, text: bool = False
) -> dict[str, Any]:
    """A success with ``model`` as JSON body; ``text``: the same address also answers plain text."""
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    }
    if text:
        content["text/plain"] = {"schema": {"type": "string"}}
    summary = " ".join((model.__doc__ or model.__name__).split("\n\n")[0].split())
    return {
        "description": summary,
        "content": content,
        "headers": _REQUEST_ID | (headers or {}),
        "models": [model],
    }


def _problem_answer(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": _REASONS[status],
        "content": {"application/problem+json": {"schema": schema}},
        "headers": _REQUEST_ID,
    }


def _usual_problems(kinds: dict[str, type[BaseModel]]) -> set[int]:
    statuses = {400, 401, 403, 414, 422, 431, 500, 503}
    if "body" in kinds:
        statuses |= {408, 413, 415}
    if "path" in kinds:
        statuses |= {404}
    return statuses


def _kinds(view: Callable) -> dict[str, type[BaseModel]]:
    return {
        name: kind
        for name, kind in get_type_hints(view).items()
        if name in ("path", "query", "body", "header")
    }


class NoQuery(BaseModel):
    """A route without query parameters: any is refused."""

    model_config = {"extra": "forbid"}


def _validating(view: Callable, kinds: dict[str, type[BaseModel]]) -> Callable:
    path, query, body = kinds.get("path"), kinds.get("query"), kinds.get("body")
    header = kinds.get("header")

    @wraps(view)
    def validated(**parts: Any) -> Any:
        given: dict[str, Any] = {}
        if path is not None:
            given["path"] = path_as(path, parts)
        checked = query_as(query or NoQuery)
        if query is not None:
            given["query"] = checked
        if body is not None:
            given["body"] = body_as(body)
        if header is not None:
            given["header"] = header_as(header)
        return view(**given)

    validated.__delay_validate_request__ = True  # type: ignore[attr-defined]
    return validated


def _operation_id(*, name: str, path: str, method: str, bp_name: str = "") -> str:
    """The view's own name, as a client's method would be called: `list_jobs` is `listJobs`."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    return "".join([words[0], *(word.capitalize() for word in words[1:])])
