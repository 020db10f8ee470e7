"""Errors as ``application/problem+json``: ours as they are, Flask's in our words, bugs without insides."""

from __future__ import annotations

from typing import Any

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from hodei.api.serialise import problem_response
from hodei.errors import HodeiError, Unauthorized

log = structlog.get_logger("hodei.api")

_WORDS = {
    400: ("bad_request", "The request cannot be understood."),
    404: ("not_found", "There is no such page. /openapi.json lists what there is."),
    405: (
        "method_not_allowed",
        "This address does not take that method. The Allow header lists those it takes.",
    ),
    413: ("payload_too_large", "The request body is too large."),
    415: ("unsupported_media_type", "Send the body with Content-Type: application/json."),
}


class MalformedBody(HodeiError):
    """The body is not valid JSON."""

    code = "malformed_body"
    status = 400


def install(app: Flask) -> None:
    """Let no error of this app leave in another form."""
    app.register_error_handler(HodeiError, answer_to)
    app.register_error_handler(HTTPException, _flask_error)
    app.register_error_handler(Exception, _bug)


def answer_to(error: HodeiError) -> Response:
    """The answer for one of our own errors."""
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
    if error.status == 503:
        headers["Retry-After"] = "1"
    if error.status >= 500:
        log.warning("request failed", code=error.code, detail=error.message)
    return problem_response(error.to_problem(), headers=headers)


def problem(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    """A problem document that no HodeiError stands for."""
    title = code.replace("_", " ").capitalize()
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail} | extra


def _flask_error(error: HTTPException) -> Response | HTTPException:
    status = error.code or 500
    if status < 400:
        return error
    code, detail = _WORDS.get(status, (error.name.lower().replace(" ", "_"), error.description or error.name))
    if isinstance(error, RequestEntityTooLarge) and request.max_content_length:
        detail = (
            f"The request body is larger than the {request.max_content_length} bytes that this address takes."
        )
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    return problem_response(problem(status, code, detail), headers=kept)


def _bug(error: Exception) -> Response:
    log.exception("unexpected error", path=request.path, method=request.method, exc_info=error)
    request_id = g.get("request_id", "")
    detail = f"Something went wrong in the server. Its log says what: look for request_id {request_id}."
    return problem_response(problem(500, "internal", detail, request_id=request_id))
