"""What every log line says of itself: the request's id, and whose job it is about.

The request's id is the caller's when it is sane, else made here; it is in the answer, too. ``correlation_id`` is the job's id: a
search for it finds the job's whole way through all processes.
"""

from __future__ import annotations

import re
import secrets

import structlog

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id_from(header: str | None) -> str:
    """The caller's id if it can be put into a log line as it is, else a new one."""
    if header and _SANE.fullmatch(header):
        return header
    return secrets.token_hex(16)


def about_job(job_id: object, **more: object) -> None:
    """What is said from here on, until the request or task is over, is about this job."""
    structlog.contextvars.bind_contextvars(
        correlation_id=str(job_id), **{name: str(value) for name, value in more.items()}
    )


def bind_request(request_id: str) -> None:
    """Start a request's context in this thread: what an earlier request bound is gone."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)


def unbind_request() -> None:
    """End the request's context, so that nothing leaks into the thread's next one."""
    structlog.contextvars.clear_contextvars()
