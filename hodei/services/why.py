"""Why a job is where it is, in words."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hodei.domain.job import JobSpec
from hodei.domain.self_hosted import SELF_HOSTED
from hodei.domain.states import JobState
from hodei.errors import NotFound
from hodei.ports import Platform
from hodei.sagas.cancellation import kill_at, lease_counts_at
from hodei.services import self_hosted
from hodei.services.dispatch import TAKES_WORK, takes_auto
from hodei.services.pipelines import why as pipelines_why
from hodei.services.schedules import why
from hodei.services.submit import missing_labels
from hodei.storage.transaction import Row, Transaction

WAIT_FOR_ONE_MOMENT = ("PublishProvisionedEvent", "ExecuteJob")
"""Steps that wait until a moment at which they fail; the others look again and again."""
FOR_EVER = timedelta(days=365)
"""Who waits longer waits for a fact alone."""


def explain(platform: Platform, job_id: UUID) -> dict[str, Any]:
    """One sentence that says why the job is where it is, and more of them with the details. Raises NotFound."""
    with platform.database.begin() as tx:
        job = tx.row("read_job", id=job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}. List them with: hodei job list")
        summary, details = _words(platform, tx, job)
        details += why.of_a_firing(job) + pipelines_why.of_a_node(tx, job)
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
        "since": job.state_since if _has_ended(job) else job.cancel_requested_at or job.state_since,
        "queue_position": job.queue_position,
    }


def _words(platform: Platform, tx: Transaction, job: Row) -> tuple[str, list[str]]:
    state = JobState(job.state)
    if state.is_terminal:
        return _ended(job), []
    if job.cancel_requested_at is not None:
        return _cancelling(platform, tx, job)
    if job.held:
        return why.of_a_held_job(tx, job)
    if state is JobState.PENDING:
        return _pending(platform, tx, job)
    if state is JobState.SCHEDULED:
        return _scheduled(tx, job)
    return _at_a_worker(platform, tx, job)


def _has_ended(job: Row) -> bool:
    return JobState(job.state).is_terminal


def _cancelling(platform: Platform, tx: Transaction, job: Row) -> tuple[str, list[str]]:
    """What a cancel waits for, and when it will wait no longer."""
    now: datetime = tx.scalar("now")
    waits_s = (now - job.cancel_requested_at).total_seconds()
    asked = f"A cancel was asked for {waits_s:.0f} s ago"
    details = _sagas(tx, job)
    if job.state == JobState.SCHEDULED:
        return (
            f"{asked}; the worker that was being made for it on {job.provider_name} is undone first.",
            details,
        )
    spec = JobSpec.from_json(job.spec)
    worker = tx.row("worker_silence", id=job.worker_id)
    silent_s = None if worker is None else worker.silent_s
    if silent_s is not None:
        details.append(f"Its worker was last heard of {silent_s:.0f} s ago.")
    place = f"worker {job.worker_id} ({job.provider_name})"
    kill = kill_at(tx, job.cancel_requested_at, spec.grace_s, spec.timeouts.cancel_s)
    if now < kill:
        if tx.scalar("reachable_since") is None:
            details.append(
                "No worker-manager is running, so its agent cannot be told or answer: hodei serve worker-manager"
            )
        return (
            f"{asked}; it waits for {place} to say that the job is gone: TERM was sent, KILL follows after "
            f"{spec.grace_s:g} s, and at {kill:%H:%M:%S} UTC its provider is told to end the worker.",
            details,
        )
    last = lease_counts_at(job.cancel_requested_at, spec.grace_s, spec.timeouts.cancel_s)
    if silent_s is not None:
        give_up = timedelta(seconds=platform.settings.lease_over_s - float(silent_s))
        last = max(last, now + give_up)
    return (
        f"{asked}; its agent does not answer, and it waits for {job.provider_name} to show {place} gone. If nobody answers, "
        f"the worker's lease counts: by {last:%Y-%m-%d %H:%M:%S} UTC it has ended the job by its own clock.",
        details,
    )


def _pending(platform: Platform, tx: Transaction, job: Row) -> tuple[str, list[str]]:
    details = []
    if job.error_code:
        details.append(f"Its last attempt ended with {job.error_code}: {job.error_message}")
    if not platform.settings.job_controller_enabled:
        return "Dispatch is switched off (HODEI_JOB_CONTROLLER_ENABLED=0).", details
    now: datetime = tx.scalar("now")
    last = tx.row("job_awaits_its_last_worker", id=job.id, lease_s=platform.settings.lease_over_s)
    if last is not None:
        return (
            f"It waits until nothing is left of its last attempt's worker {last.id}, at the latest until "
            f"{last.lease_ends:%H:%M:%S} UTC: two attempts never overlap.",
            details,
        )
    if job.due_at > now:
        return f"It is tried again in {(job.due_at - now).total_seconds():.0f} s.", details
    ahead = (job.queue_position or 1) - 1
    details.append(
        "It is the next in its queue." if ahead == 0 else f"{ahead} jobs are before it in its queue."
    )
    spec = JobSpec.from_json(job.spec)
    if not platform.settings.provisioning_enabled and not self_hosted.asks_for_one(spec):
        return "No new workers are made (HODEI_PROVISIONING_ENABLED=0): it waits for a free one.", details
    providers = tx.rows("provider_list")
    wanted = [
        row
        for row in providers
        if (job.requested_provider == row.name and row.provider_type != SELF_HOSTED)
        or (job.requested_provider == "auto" and takes_auto(platform, row, providers))
    ]
    fitting = [row for row in wanted if not missing_labels(spec, row)]
    if self_hosted.asks_for_one(spec) and not fitting:
        return _waits_for_self_hosted(tx, job, spec, providers), details
    if wanted and not fitting:
        labels = ", ".join(f"{key}={value}" for key, value in spec.required_labels.items())
        return (
            f"It waits for a provider with the labels that it requires ({labels}); {_none_has(wanted)}.",
            details,
        )
    wanted = fitting
    if not wanted and job.requested_provider == "auto":
        return "It waits: there is no provider that takes jobs which name none.", details
    if not wanted:
        return f"It waits for provider {job.requested_provider}, which does not exist any more.", details
    active = [row for row in wanted if row.status in TAKES_WORK]
    if not active:
        words = [
            f"{row.name}, which is {row.status}: {row.status_reason or 'no reason given'}" for row in wanted
        ]
        details += [f"It would also run on {word}" for word in words[1:]]
        return f"It waits for provider {words[0]}", details
    if all(row.places_taken >= row.max_workers for row in active):
        names = ", ".join(f"{row.name} ({row.places_taken} of {row.max_workers} workers)" for row in active)
        return f"It waits for room: {names}.", details
    return "It waits to be dispatched. If this lasts, no controller is running: hodei status", details


def _waits_for_self_hosted(tx: Transaction, job: Row, spec: JobSpec, providers: list[Row]) -> str:
    theirs = next((row for row in providers if row.provider_type == SELF_HOSTED), None)
    if theirs is not None and theirs.status not in TAKES_WORK:
        return f"It waits for provider {theirs.name}, which is {theirs.status}: {theirs.status_reason or 'no reason given'}"
    return self_hosted.what_is_missing(tx, spec)


def _none_has(providers: list[Row]) -> str:
    names = ", ".join(row.name for row in providers)
    return f"{names} does not have them" if len(providers) == 1 else f"none of {names} has them"


def _scheduled(tx: Transaction, job: Row) -> tuple[str, list[str]]:
    sagas = tx.rows("read_open_sagas_of_job", job_id=job.id)
    details = [_saga_words(saga) for saga in sagas]
    making = next((saga for saga in sagas if saga.saga_type == "PROVISIONING"), None)
    provider = job.provider_name
    if making is None:
        return f"A worker was made for it on {provider}; it is about to get the job.", details
    if making.state == "COMPENSATING":
        return f"Making its worker on {provider} failed and is being undone: {making.error_message}", details
    if making.step == "CreateInfrastructure" and making.metadata.get("awaits_provider"):
        return f"It waits for {provider}, which is asked again: {making.metadata['awaits_provider']}", details
    if making.step == "CreateInfrastructure" and making.waiting_until is not None:
        return f"The image {making.metadata.get('awaits_image')} is being pulled on {provider}.", details
    if making.step == "PublishProvisionedEvent":
        return _not_connected(tx, job), details
    return f"A worker is being made for it on {provider}.", details


def _not_connected(tx: Transaction, job: Row) -> str:
    """How far its worker has come, as its provider shows it."""
    worker = tx.row("worker_get", id=job.worker_id)
    seen = {} if worker is None else worker.agent.get("infrastructure") or {}
    if seen.get("code"):
        return f"Its worker on {job.provider_name} does not run yet: {seen['code']}: {seen['message']}"
    if seen.get("state") == "starting":
        return f"Its worker on {job.provider_name} was made and does not run yet: its host prepares it."
    return f"Its worker on {job.provider_name} was started and has not connected yet."


def _sagas(tx: Transaction, job: Row) -> list[str]:
    return [_saga_words(saga) for saga in tx.rows("read_open_sagas_of_job", job_id=job.id)]


def _saga_words(saga: Row) -> str:
    until = saga.waiting_until
    if until is None or until > saga.now + FOR_EVER:
        waiting = ""
    elif saga.step in WAIT_FOR_ONE_MOMENT:
        waiting = f", until {until:%H:%M:%S} UTC at the latest"
    else:
        waiting = f", looks again at {until:%H:%M:%S} UTC"
    return f"{saga.saga_type} is at {saga.step or 'its end'} ({saga.state}{waiting})."


def _at_a_worker(platform: Platform, tx: Transaction, job: Row) -> tuple[str, list[str]]:
    place = f"worker {job.worker_id} ({job.provider_name})"
    sagas = {saga.saga_type: saga for saga in tx.rows("read_open_sagas_of_job", job_id=job.id)}
    details = [_saga_words(saga) for saga in sagas.values()]
    if "RECOVERY" in sagas:
        return (
            f"Its {place} is given up: {sagas['RECOVERY'].metadata['error_message']} It is tried again, "
            "as far as its retries reach, once nothing of that worker is left.",
            details,
        )
    worker = tx.row("worker_get", id=job.worker_id) if job.worker_id else None
    if "TIMEOUT" in sagas:
        return _out_of_its_time(platform, worker, place), details
    running = job.state == JobState.RUNNING
    summary = f"It runs on {place}." if running else "A worker has it and is starting it."
    if worker is None or worker.last_heartbeat is None:
        return summary, [] if running else details
    silent_s = (tx.scalar("now") - worker.last_heartbeat).total_seconds()
    if silent_s > 2 * platform.settings.heartbeat_interval:
        summary = _silent(platform, tx, worker, place, silent_s)
    if running:
        details = [f"The worker's last heartbeat was {silent_s:.0f} s ago."]
    return summary, details


def _out_of_its_time(platform: Platform, worker: Row | None, place: str) -> str:
    """A TIMEOUT is open: the agent, who would have ended the job, is not heard."""
    words = f"It ran out of its time, and its {place} is silent: it ends once nothing of that worker is left"
    if worker is None or worker.last_heartbeat is None:
        return f"{words}."
    lease_ends = worker.last_heartbeat + timedelta(seconds=platform.settings.lease_over_s)
    return f"{words}, or at {lease_ends:%H:%M:%S} UTC, when its agent has ended it by its own clock."


def _silent(platform: Platform, tx: Transaction, worker: Row, place: str, silent_s: float) -> str:
    settings, words = platform.settings, f"Its {place} has been silent for {silent_s:.0f} s."
    if tx.scalar("reachable_since") is None:
        return f"{words} No worker-manager is running, so it cannot be heard, and is not blamed: hodei serve worker-manager"
    if worker.provider_type == SELF_HOSTED:
        return (
            f"{words} After {settings.worker_give_up_after:.0f} s it is given up, and the job is tried again once its agent has "
            f"registered again, or after {settings.lease_over_s:.0f} s, when it has ended the job by its own clock."
        )
    return (
        f"{words} After {settings.worker_lost_after:.0f} s the provider is asked; after "
        f"{settings.worker_give_up_after:.0f} s it is given up."
    )


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
