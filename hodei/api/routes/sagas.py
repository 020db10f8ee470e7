"""Sagas: how provisioning, execution, recovery, cancellation, time-outs and clean-up went, step by step."""

from __future__ import annotations

from flask import Response

from hodei.api.current import platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import SagaPath
from hodei.api.schemas.records import SagaInFull, SagaList, SagasQuery
from hodei.api.serialise import json_response
from hodei.services import history

routes = Routes("sagas", "JobExecutionService")


@routes.route_of("GET", "/sagas", {200: described(SagaList, headers=LINK)})
def list_sagas(query: SagasQuery) -> Response:
    """List sagas"""
    page = history.list_sagas(platform(), query.wanted(), cursor=query.cursor, limit=query.limit)
    return page_response(page)


@routes.route_of("GET", "/sagas/<saga_id>", {200: SagaInFull})
def get_saga(path: SagaPath) -> Response:
    """Look at a saga with its steps and audit trail"""
    return json_response(history.get_saga(platform(), path.saga_id))
