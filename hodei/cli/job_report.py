"""A job in words, and what its end means for an exit code."""

from __future__ import annotations

from collections.abc import Iterator

from hodei.cli.output import lasted, moment, visible
from hodei.client.shapes import Cause, Job

STATUSES = ("pending", "assigned", "scheduled", "running", "succeeded", "failed", "cancelled", "timeout")
"""In the order of their codes."""


def exit_code(job: Job) -> int:
    """0 when it succeeded, else its own exit code (128 + signal), else 1."""
    if job.status == "succeeded":
        return 0
    if job.exit_code is None:
        return 1
    code = 128 - job.exit_code if job.exit_code < 0 else job.exit_code
    return code if 0 < code < 256 else 1


def status_line(job: Job) -> str:
    code = job.status_code
    if code is None and job.status in STATUSES:
        code = STATUSES.index(job.status)
    return f"Status: {visible(job.status.upper())} (Status Code: {visible(code)})"


def lines(job: Job) -> Iterator[str]:
    """What ``hodei job get`` shows."""
    yield f"ID: {visible(job.id)}"
    yield f"Name: {visible(job.name)}"
    yield status_line(job)
    if job.held and not job.has_ended:
        yield f"Held: it {'waits for the runs before it' if job.schedule_id else 'is a definition'}, outside the queue"
    yield f"Provider: {_provider(job)}"
    yield f"Worker: {visible(job.worker_id)}"
    beyond = " (the others are the infrastructure's retries)" if job.attempts > job.max_attempts else ""
    yield f"Attempts: {job.attempts} of {job.max_attempts}{beyond}"
    yield f"Created: {moment(job.created_at)}"
    yield f"Started: {moment(job.started_at)}"
    ended = moment(job.completed_at)
    yield (
        f"Completed: {ended} (after {lasted(job.started_at, job.completed_at)})"
        if job.started_at and (job.completed_at)
        else f"Completed: {ended}"
    )
    if job.cancel_requested_at and not job.has_ended:
        yield f"Cancel asked for: {moment(job.cancel_requested_at)}"
    if job.queue_position is not None:
        yield f"Queue position: {job.queue_position}"
    yield f"Exit code: {visible(job.exit_code)}"
    for name, value in job.outputs.items():
        yield f"Output {visible(name)}: {visible(value)}"
    yield f"Log: {job.log.entries} entries, {job.log.bytes} bytes, {_whole(job)}"
    if job.error:
        yield from cause_lines(job.error)


def cause_lines(cause: Cause) -> Iterator[str]:
    severity = f" ({visible(cause.severity)})" if cause.severity else ""
    yield f"Error: {visible(cause.code)}{severity} {visible(cause.message)}"
    for action in cause.actions:
        yield f"  - {visible(action)}"


def _provider(job: Job) -> str:
    if job.provider_type and job.provider_id:
        return f"{visible(job.provider_type)} ({visible(job.provider_id)})"
    return f"{visible(job.provider_type or job.provider)}" + ("" if job.provider_type else " (asked for)")


def _whole(job: Job) -> str:
    if job.log.complete or (job.has_ended and job.attempts == 0):
        return "complete"
    return "incomplete (ERR_1016)" if job.has_ended else "not complete yet"
