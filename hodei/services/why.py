"""Why a job is where it is, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from hodei.domain.states import JobState
from hodei.errors import NotFound
from hodei.ports import Platform
from hodei.storage.transaction import Row, Transaction


def explain(platform: Platform, job_id: UUID) -> dict[str, Any]:
    """One sentence that says why the job is where it is, and more of them with the details. Raises NotFound."""
    with platform.database.begin() as tx:
        job = tx.row("read_job", id=job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
        summary, details = _words(platform, tx, job)
        if job.attempts > 1:
            summary += f" This is attempt {job.attempts} of the job."
            details += [
                _attempt_words(row)
                for row in tx.rows("read_attempts_before", id=job.id, attempt=job.attempts)
            ]
    return {
        "job_id": job.id,
        "status": job.state.lower(),
        "summary": summary,
        "details": details,
        "since": job.state_since,
        "queue_position": job.queue_position,
    }


def _words(platform: Platform, tx: Transaction, job: Row) -> tuple[str, list[str]]:
    state = JobState(job.state)
    if job.held:
        return "It is a definition without a command: it waits to be executed or scheduled.", []
    if state is JobState.PENDING:
        return _pending(platform, tx, job)
    if state is JobState.SCHEDULED:
        return _scheduled(tx, job)
    if state is JobState.ASSIGNED:
        return "A worker has it and is starting it.", _sagas(tx, job)
    if state is JobState.RUNNING:
        return _running(platform, tx, job)
    return _ended(job), []


def _pending(platform: Platform, tx: Transaction, job: Row) -> tuple[str, list[str]]:
    details = []
    if job.error_code:
        details.append(f"Its last attempt ended with {job.error_code}: {job.error_message}")
    if not platform.settings.job_controller_enabled:
        return "Dispatch is switched off (HODEI_JOB_CONTROLLER_ENABLED=0).", details
    now: datetime = tx.scalar("now")
    if job.due_at > now:
        return f"It is tried again in {(job.due_at - now).total_seconds():.0f} s.", details
    ahead = (job.queue_position or 1) - 1
    details.append(
        "It is the next in its queue." if ahead == 0 else f"{ahead} jobs are before it in its queue."
    )
    if not platform.settings.provisioning_enabled:
        return "No new workers are made (HODEI_PROVISIONING_ENABLED=0): it waits for a free one.", details
    wanted = [
        row
        for row in tx.rows("provider_list")
        if job.requested_provider in (row.name, "auto")
        and not (job.requested_provider == "auto" and row.provider_type == "process")
    ]
    if not wanted and job.requested_provider == "auto":
        return "It waits: there is no provider that takes jobs which name none.", details
    if not wanted:
        return f"It waits for provider {job.requested_provider}, which does not exist any more.", details
    active = [row for row in wanted if row.status in ("ACTIVE", "DEGRADED")]
    if not active:
        row = wanted[0]
        reason = row.status_reason or "no reason given"
        return f"It waits for provider {row.name}, which is {row.status}: {reason}", details
    if all(row.places_taken >= row.max_workers for row in active):
        names = ", ".join(f"{row.name} ({row.places_taken} of {row.max_workers} workers)" for row in active)
        return f"It waits for room: {names}.", details
    return "It waits to be dispatched. If this lasts, no controller is running: hodei status", details


def _scheduled(tx: Transaction, job: Row) -> tuple[str, list[str]]:
    sagas = tx.rows("read_open_sagas_of_job", job_id=job.id)
    details = [_saga_words(saga) for saga in sagas]
    making = next((saga for saga in sagas if saga.saga_type == "PROVISIONING"), None)
    provider = job.provider_name
    if making is None:
        return f"A worker was made for it on {provider}; it is about to get the job.", details
    if making.state == "COMPENSATING":
        return f"Making its worker on {provider} failed and is being undone: {making.error_message}", details
    if making.step == "CreateInfrastructure" and making.waiting_until is not None:
        return f"The image {making.metadata.get('awaits_image')} is being pulled on {provider}.", details
    if making.step == "PublishProvisionedEvent":
        return f"Its worker on {provider} was started and has not connected yet.", details
    return f"A worker is being made for it on {provider}.", details


def _sagas(tx: Transaction, job: Row) -> list[str]:
    return [_saga_words(saga) for saga in tx.rows("read_open_sagas_of_job", job_id=job.id)]


def _saga_words(saga: Row) -> str:
    waiting = f", until {saga.waiting_until:%H:%M:%S} UTC at the latest" if saga.waiting_until else ""
    return f"{saga.saga_type} is at {saga.step or 'its end'} ({saga.state}{waiting})."


def _running(platform: Platform, tx: Transaction, job: Row) -> tuple[str, list[str]]:
    summary = f"It runs on worker {job.worker_id} ({job.provider_name})."
    worker = tx.row("worker_get", id=job.worker_id) if job.worker_id else None
    if worker is None or worker.last_heartbeat is None:
        return summary, []
    silent_s = (tx.scalar("now") - worker.last_heartbeat).total_seconds()
    settings = platform.settings
    if silent_s > 2 * settings.heartbeat_interval:
        summary = (
            f"Its worker {job.worker_id} ({job.provider_name}) has been silent for {silent_s:.0f} s. After "
            f"{settings.worker_lost_after:.0f} s the provider is asked; after {settings.worker_give_up_after:.0f} s "
            "it is given up."
        )
    return summary, [f"The worker's last heartbeat was {silent_s:.0f} s ago."]


def _ended(job: Row) -> str:
    words = {
        "SUCCEEDED": "It succeeded.",
        "FAILED": "It failed.",
        "CANCELLED": "It was cancelled.",
        "TIMEOUT": "It took longer than it may.",
    }[job.state]
    return f"{words[:-1]}: {job.error_code}: {job.error_message}" if job.error_code else words


def _attempt_words(row: Row) -> str:
    cause = f": {row.error_code}: {row.error_message}" if row.error_code else "."
    return f"Attempt {row.attempt} ended as {row.state}{cause}"
