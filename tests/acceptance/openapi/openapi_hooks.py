"""What schemathesis has to be told of these services: one more content type, and which refusals no schema can foresee."""

from __future__ import annotations

from typing import Any

import schemathesis
from hodei_agent.protocol import FRAMES_CONTENT_TYPE

BEYOND_SCHEMAS = {
    "cursor": "is one that a Link header gave",
    "cron": "names times that come",
    "schedule_time": "is to come, and a day of the calendar",
    "start_at": "is a day of the calendar",
    "end_at": "is after start_at, and a day of the calendar",
    "timezone": "is one that there is",
    "since": "is a day of the calendar",
    "until": "is a day of the calendar",
    "provider": "is one that there is",
    "required_labels": "are the provider's",
    "image": "runs at the provider",
    "cpu": "can be held to at the provider",
    "memory": "can be held to at the provider, and is not below what a container needs",
    "args": "can be split as a shell does",
    "command": "is no longer, in bytes, than what Linux takes",
    "secret_env": "names nothing that env has",
    "env": "is no longer, in bytes, than what Linux takes",
    "config": "is what the provider's adapter takes",
    "jobs": "are each of the above",
}


WAITS = ("wait", "wait_s")
PATIENCE_S = 0.1


@schemathesis.hook
def before_call(_context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Answers that may be waited for, or followed, are not: in real time that would take longer than all others together."""
    del kwargs
    known = case.operation.query
    query = case.query if isinstance(case.query, dict) else {}
    for name in WAITS:
        wanted = query.get(name)
        if name in known and (wanted is None or (isinstance(wanted, (int, float)) and wanted > PATIENCE_S)):
            query[name] = PATIENCE_S
    if query.get("follow") in (True, 1, "1", "true"):
        query["follow"] = "0"
    if query:
        case.query = query


@schemathesis.serializer(FRAMES_CONTENT_TYPE)
def frames(_context: Any, value: Any) -> bytes:
    """Frames are bytes; what is not is sent as text, to be refused."""
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else str(data).encode()


@schemathesis.check
def refuses_only_what_a_schema_cannot_say(_context: Any, response: Any, case: Any) -> None:
    """What fits the schema is refused for its values alone, and only where a schema could not have said so."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code not in (400, 415, 422):
        return
    if case.media_type == FRAMES_CONTENT_TYPE:
        return  # to a schema they are bytes
    problem = response.json()
    field = (problem.get("field") or "").split(".")[0]
    if field not in BEYOND_SCHEMAS:
        raise AssertionError(
            f"{response.status_code} for what fits the schema: {problem.get('detail')} ({field})"
        )
