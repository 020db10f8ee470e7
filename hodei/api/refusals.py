"""Answers that the server gives by itself: to what was not HTTP, came too slowly, or came too often."""

from __future__ import annotations

import socket

import structlog
from gunicorn import util

from hodei.api.problems import problem
from hodei.api.serialise import PROBLEM_TYPE, to_json
from hodei.errors import HodeiError

log = structlog.get_logger("hodei.server")

_STATUS = {
    "LimitRequestLine": 414,
    "LimitRequestHeaders": 431,
    "ExpectationFailed": 417,
    "UnsupportedTransferCoding": 501,
}
_REASON = {
    400: "Bad Request",
    408: "Request Timeout",
    414: "URI Too Long",
    417: "Expectation Failed",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
}


def answer_to(error: Exception) -> bytes:
    """What a request gets that could not be read."""
    if isinstance(error, HodeiError):
        return answer(error.status, error.code, error.message)
    status = _STATUS.get(
        type(error).__name__, 400 if type(error).__module__ == "gunicorn.http.errors" else 500
    )
    if status == 500:
        log.error("the server failed", exc_info=error)
        return answer(status, "internal", "Something went wrong in the server. Its log says what.")
    return answer(status, "bad_request", str(error))


def answer(status: int, code: str, detail: str) -> bytes:
    """A whole answer, after which the connection ends."""
    body = to_json(problem(status, code, detail)).encode()
    head = f"HTTP/1.1 {status} {_REASON[status]}\r\nConnection: close\r\nContent-Type: {PROBLEM_TYPE}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


TOO_MANY = answer(
    429, "too_many_connections", "Too many connections are open here: close some, or try again later."
)


def write(client: socket.socket, answer: bytes) -> None:
    """Without waiting: it is small, and whoever does not read does not get it."""
    try:
        util.write_nonblock(client, answer)
    except OSError:
        log.debug("the client was gone before its error")
