"""Schedules: making, changing and firing them, and what their times are and came to."""

from __future__ import annotations

from flask import Response

from hodei.api.current import OPERATOR, platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import OnceHeader, PageQuery
from hodei.api.schemas.schedules import (
    Firing,
    FiringList,
    Schedule,
    ScheduleChange,
    ScheduleIn,
    ScheduleList,
    SchedulePath,
    SchedulesQuery,
    TimesIn,
    UpcomingList,
    UpcomingQuery,
    Validated,
)
from hodei.api.serialise import json_response
from hodei.services.idempotency import RequestKey
from hodei.services.schedules import change, create, fire, read

routes = Routes("schedules", "SchedulerService")

_DELETED = {"description": "It is gone; the jobs that it made stay."}
_LOCATION = {"Location": {"description": "The schedule's address.", "schema": {"type": "string"}}}


@routes.route_of("POST", "/schedule", {201: described(Schedule, headers=_LOCATION)}, problems=(404, 409))
def create_schedule(header: OnceHeader, body: ScheduleIn) -> Response:
    """Have a job's definition run at certain times

    Each time is a job of its own, with `scheduled_for`, exactly once. A definition without a command is accepted: each firing is
    skipped, with an event that says so, unless the schedule brings a `command`. 409 when the job's secrets were forgotten.
    """
    key = None
    if header.key is not None:
        key = RequestKey.of("POST /schedule", header.key, body.model_dump_json().encode())
    made = create.create_schedule(platform(), body.to_new_schedule(), actor=OPERATOR, key=key)
    return json_response(made, 201, headers={"Location": f"{read.PATH}/{made['id']}"})


@routes.route_of("POST", "/schedule/validate", {200: Validated})
def validate_times(body: TimesIn) -> Response:
    """Ask in words whether these times would do, and which the first are"""
    return json_response(create.validate(platform(), body.model_dump()))


@routes.route_of("GET", "/scheduled", {200: described(ScheduleList, headers=LINK)})
def list_schedules(query: SchedulesQuery) -> Response:
    """List schedules"""
    page = read.list_schedules(
        platform(), status=query.status, job_id=query.job_id, cursor=query.cursor, limit=query.limit
    )
    return page_response(page)


@routes.route_of("GET", "/scheduled/<schedule_id>", {200: Schedule})
def get_schedule(path: SchedulePath) -> Response:
    """Look at a schedule"""
    return json_response(read.get_schedule(platform(), path.schedule_id))


@routes.route_of("PATCH", "/scheduled/<schedule_id>", {200: Schedule}, problems=(409,))
def change_schedule(path: SchedulePath, body: ScheduleChange) -> Response:
    """Change, pause or resume a schedule

    Times that go by while it is paused are not made up for. New times count from now.
    """
    return json_response(change.change_schedule(platform(), path.schedule_id, body.changes(), actor=OPERATOR))


@routes.route_of("DELETE", "/scheduled/<schedule_id>", {204: _DELETED})
def delete_schedule(path: SchedulePath) -> Response:
    """Delete a schedule

    Runs of it that wait for those before them are cancelled; those that are going go on.
    """
    change.delete_schedule(platform(), path.schedule_id, actor=OPERATOR)
    return Response(status=204)


@routes.route_of("POST", "/scheduled/<schedule_id>/trigger", {201: Firing}, problems=(409,))
def trigger_schedule(header: OnceHeader, path: SchedulePath) -> Response:
    """Fire a schedule now

    Its overlap holds for this too: the answer says whether there is a job, and if not, why.
    """
    key = None
    if header.key is not None:
        key = RequestKey.of(f"POST /scheduled/{path.schedule_id}/trigger", header.key, b"")
    fired = fire.trigger_schedule(platform(), path.schedule_id, actor=OPERATOR, key=key)
    return json_response(fired, 201)


@routes.route_of("GET", "/scheduled/<schedule_id>/upcoming", {200: UpcomingList})
def list_upcoming(path: SchedulePath, query: UpcomingQuery) -> Response:
    """List the next times that a schedule names, also while it is paused"""
    return json_response(read.list_upcoming(platform(), path.schedule_id, count=query.count))


@routes.route_of("GET", "/scheduled/<schedule_id>/firings", {200: described(FiringList, headers=LINK)})
def list_firings(path: SchedulePath, query: PageQuery) -> Response:
    """List what a schedule's times came to, the latest first"""
    page = read.list_firings(platform(), path.schedule_id, cursor=query.cursor, limit=query.limit)
    return page_response(page)
