"""Lists: arrays, with the next page in a Link header."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Response, request

from hodei.api.serialise import json_response
from hodei.services.paging import Page


def page_response(page: Page, items: list[Any] | None = None) -> Response:
    """The page as an array; ``items`` replaces its items when they were reworded."""
    headers = {}
    if page.next_cursor is not None:
        kept = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
        query = urlencode([*kept, ("cursor", page.next_cursor)])
        headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return json_response(list(page.items) if items is None else items, headers=headers)
