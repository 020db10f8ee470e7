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
from hodei.services import cancel, delete, jobs, retry, submit, why
from hodei.services.idempotency import RequestKey

routes = Routes("jobs", "JobExecutionService")

_DELETED = {"description": "It is gone."}
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
    return page_response(jobs.list_jobs(platform(), query.wanted(), cursor=query.cursor, limit=query.limit))


@routes.route_of("GET", "/jobs/<job_id>", {200: Job})
def get_job(path: JobPath, query: JobQuery) -> Response:
    """Look at a job, now or when it has ended"""
    if query.wait:
        return json_response(jobs.wait_for_job(platform(), path.job_id, query.wait))
    return json_response(jobs.get_job(platform(), path.job_id))


@routes.route_of("POST", "/jobs/<job_id>/cancel", {202: Job}, problems=(409,))
def cancel_job(path: JobPath) -> Response:
    """Cancel a job

    The wish is noted at once (`cancel_requested_at`); the job is `cancelled` when nothing of it lives any more. A result
    that comes before the kill wins. Asked again it answers the same; 409 when the job has ended otherwise.
    """
    return json_response(cancel.cancel_job(platform(), path.job_id, actor=OPERATOR), 202)


@routes.route_of("POST", "/jobs/<job_id>/retry", {202: Job}, problems=(409,))
def retry_job(header: OnceHeader, path: JobPath) -> Response:
    """Try a job again that failed, timed out or was cancelled"""
    key = None
    if header.key is not None:
        key = RequestKey.of(f"POST /jobs/{path.job_id}/retry", header.key, b"")
    return json_response(retry.retry_job(platform(), path.job_id, actor=OPERATOR, key=key), 202)


@routes.route_of("DELETE", "/jobs/<job_id>", {204: _DELETED}, problems=(409,))
def delete_job(path: JobPath) -> Response:
    """Delete a job that has ended, or a definition that is held, with its attempts and logs"""
    delete.delete_job(platform(), path.job_id, actor=OPERATOR)
    return Response(status=204)


@routes.route_of("GET", "/jobs/<job_id>/why", {200: Why})
def explain_job(path: JobPath) -> Response:
    """Ask why a job is where it is"""
    return json_response(why.explain(platform(), path.job_id))
