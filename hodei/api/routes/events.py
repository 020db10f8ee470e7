"""The audit trail."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.records import EventList, EventsQuery
from hodei.services import history

routes = Routes("events", "JobExecutionService")


@routes.route_of("GET", "/events", {200: described(EventList, headers=LINK)})
def list_events(query: EventsQuery) -> Response:
    """List events, oldest first"""
    page = history.list_events(platform(), query.wanted(), cursor=query.cursor, limit=query.limit)
    return page_response(page)
