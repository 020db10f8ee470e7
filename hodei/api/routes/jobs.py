"""Submitting jobs and looking at them."""

from __future__ import annotations

from flask import Response, g
from pydantic import BaseModel

from hodei.api.current import OPERATOR, platform
from hodei.api.paging import page_response
from hodei.api.routing import LINK, Routes, described
from hodei.api.schemas.common import JobPath, OnceHeader
from hodei.api.schemas.job_in import BatchIn, JobIn
from hodei.api.schemas.job_out import Job, JobList, JobQuery, JobsQuery, Why
from hodei.api.serialise import json_response
from hodei.errors import InvalidInput
from hodei.services import jobs, submit, why
from hodei.services.idempotency import RequestKey

routes = Routes("jobs", "JobExecutionService")

_LOCATION = {"Location": {"description": "The job's address.", "schema": {"type": "string"}}}


@routes.route_of("POST", "/jobs", {201: described(Job, headers=_LOCATION)}, problems=(404, 409))
def submit_job(header: OnceHeader, body: JobIn) -> Response:
    """Submit a job

    It is stored and queued. Without a command it is a definition that waits in its pipeline.
    """
    key = _key("POST /jobs", header, body)
    job = submit.submit_job(platform(), body.to_new_job(), actor=OPERATOR, request_id=g.request_id, key=key)
    return json_response(job, 201, headers={"Location": f"/api/v1/jobs/{job['id']}"})


@routes.route_of("POST", "/jobs/batch", {201: JobList}, problems=(404, 409))
def submit_batch(header: OnceHeader, body: BatchIn) -> Response:
    """Submit several jobs, all or none"""
    new = [job.to_new_job() for job in body.jobs]
    key = _key("POST /jobs/batch", header, body)
    return json_response(
        submit.submit_jobs(platform(), new, actor=OPERATOR, request_id=g.request_id, key=key), 201
    )


def _key(scope: str, header: OnceHeader, body: BaseModel) -> RequestKey | None:
    if header.key is None:
        return None
    return RequestKey.of(scope, header.key, body.model_dump_json().encode())


@routes.route_of("GET", "/jobs", {200: described(JobList, headers=LINK)})
def list_jobs(query: JobsQuery) -> Response:
    """List jobs"""
    page = jobs.list_jobs(
        platform(),
        status=[str(status) for status in query.status] if query.status else None,
        label=_labels(query.label),
        name=query.name,
        pipeline_id=query.pipeline_id,
        cursor=query.cursor,
        limit=query.limit,
    )
    return page_response(page)


@routes.route_of("GET", "/jobs/<job_id>", {200: Job})
def get_job(path: JobPath, query: JobQuery) -> Response:
    """Look at a job, now or when it has ended"""
    if query.wait:
        return json_response(jobs.wait_for_job(platform(), path.job_id, query.wait))
    return json_response(jobs.get_job(platform(), path.job_id))


@routes.route_of("GET", "/jobs/<job_id>/why", {200: Why})
def explain(path: JobPath) -> Response:
    """Ask why a job is where it is"""
    return json_response(why.explain(platform(), path.job_id))


def _labels(given: list[str] | None) -> dict[str, str] | None:
    if not given:
        return None
    labels = {}
    for item in given:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise InvalidInput("label is KEY=VALUE, such as label=team=data.", field="label")
        labels[key] = value
    return labels
