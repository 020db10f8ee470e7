"""Submitting jobs: the row, its event and its outbox row in one transaction; waking the dispatcher after it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from hodei.domain.ids import new_id
from hodei.domain.job import JobSpec
from hodei.domain.self_hosted import SELF_HOSTED
from hodei.errors import InvalidInput, NotFound
from hodei.ports import Platform
from hodei.services import traces
from hodei.services.idempotency import RequestKey, once
from hodei.services.jobs import job_view
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger("hodei.events")

MAX_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to be submitted. ``secrets`` are name → value, and are nowhere else.

    ``held``: it stays outside the queue for now, as one without anything to run always does. A firing of a schedule has its
    ``schedule_id`` and the nominal time that it is for; a node of a pipeline's run its run, its key there, and an ``id`` that
    follows from them.
    """

    name: str
    spec: JobSpec
    priority: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    pipeline_id: UUID | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    held: bool = False
    schedule_id: UUID | None = None
    scheduled_for: datetime | None = None
    id: UUID | None = None
    pipeline_run_id: UUID | None = None
    pipeline_node: str | None = None


def submit_job(
    platform: Platform, new: NewJob, *, actor: str, request_id: str | None, key: RequestKey | None = None
) -> dict[str, Any]:
    """Store one job and have it dispatched; see :func:`submit_jobs`."""
    return submit_jobs(platform, [new], actor=actor, request_id=request_id, key=key)[0]


def submit_jobs(
    platform: Platform,
    batch: list[NewJob],
    *,
    actor: str,
    request_id: str | None,
    key: RequestKey | None = None,
) -> list[dict[str, Any]]:
    """Store all of the jobs or none of them. When this returns they are safe, with or without a broker.

    With ``key``, a request that is sent again gets the first answer. Raises Conflict for a key with another body, NotFound for
    an unknown pipeline, InvalidInput for an unknown provider, or for something that the named provider cannot give.
    """
    if not 1 <= len(batch) <= MAX_BATCH:
        raise InvalidInput(f"A batch holds 1 to {MAX_BATCH} jobs; this one has {len(batch)}.", field="jobs")
    with platform.database.begin() as tx:
        return once(tx, key, lambda: _submit(platform, tx, batch, actor, request_id))


def _submit(
    platform: Platform, tx: Transaction, batch: list[NewJob], actor: str, request_id: str | None
) -> list[dict[str, Any]]:
    _check_pipelines(tx, batch)
    return store_jobs(platform, tx, batch, actor=actor, request_id=request_id)


def _check_pipelines(tx: Transaction, batch: list[NewJob]) -> None:
    wanted = {new.pipeline_id for new in batch if new.pipeline_id is not None}
    if not wanted:
        return
    for missing in wanted - {row.id for row in tx.rows("pipelines_exist", ids=list(wanted))}:
        raise NotFound(
            f"There is no pipeline {missing}. List them with: hodei pipeline list", field="pipeline_id"
        )


def store_jobs(
    platform: Platform, tx: Transaction, batch: list[NewJob], *, actor: str, request_id: str | None
) -> list[dict[str, Any]]:
    """Store all of the jobs in this transaction, and dispatch them after it. Raises InvalidInput, having written nothing."""
    providers = {row.name: row for row in tx.rows("provider_list")}
    for new in batch:
        check_provider(new.spec, providers)
    documents = [_document(new, request_id) for new in batch]
    rows = tx.rows("jobs_insert", jobs=json.dumps(documents), actor=actor, request_id=request_id)
    by_id = {str(row.id): row for row in rows}
    traces.begin(platform, tx, ((document["id"], document["name"]) for document in documents))
    for new, document in zip(batch, documents, strict=True):
        for name, value in new.secrets.items():
            ciphertext = platform.vault.encrypt(value)
            tx.execute("secret_insert", owner_id=document["id"], name=name, ciphertext=ciphertext)
    tx.after_commit(lambda: _say(documents, actor))
    tx.after_commit(platform.courier.look)
    tx.after_commit(platform.courier.relay)
    return [job_view(by_id[document["id"]]) for document in documents]


def _say(documents: list[dict[str, Any]], actor: str) -> None:
    """One line, however many they are: it names all of them."""
    ids = [document["id"] for document in documents]
    if len(ids) == 1:
        log.info("JobCreated", job_id=ids[0], correlation_id=ids[0], actor=actor)
    else:
        log.info("JobCreated", job_ids=ids, count=len(ids), actor=actor)


def _document(new: NewJob, request_id: str | None) -> dict[str, Any]:
    """A job as ``jobs_insert`` takes it."""
    created = {
        "name": new.name,
        "provider": new.spec.provider,
        "priority": new.priority,
        "request_id": request_id,
    }
    scheduled_for = None if new.scheduled_for is None else new.scheduled_for.isoformat()
    if new.schedule_id is not None:
        created |= {"schedule_id": str(new.schedule_id), "scheduled_for": scheduled_for}
    run_id = None if new.pipeline_run_id is None else str(new.pipeline_run_id)
    if run_id is not None:
        created |= {"pipeline_run_id": run_id, "pipeline_node": new.pipeline_node}
    return {
        "id": str(new.id or new_id()),
        "event_id": str(new_id()),
        "name": new.name,
        "spec": new.spec.to_json(),
        "held": new.held or new.spec.is_held,
        "requested_provider": new.spec.provider,
        "pipeline_id": str(new.pipeline_id) if new.pipeline_id else None,
        "priority": new.priority,
        "user_retries": new.spec.retries,
        "labels": new.labels,
        "schedule_id": str(new.schedule_id) if new.schedule_id else None,
        "scheduled_for": scheduled_for,
        "pipeline_run_id": run_id,
        "pipeline_node": new.pipeline_node,
        "payload": created,
    }


def missing_labels(spec: JobSpec, provider: Row) -> str:
    """The required labels that the provider does not have, as K=V; empty when it has all of them."""
    return ", ".join(
        f"{key}={value}" for key, value in spec.required_labels.items() if provider.labels.get(key) != value
    )


def check_provider(spec: JobSpec, providers: dict[str, Row]) -> None:
    """Raises InvalidInput when the provider that it names is none of these (by name), or cannot give what it wants."""
    if spec.provider == "auto":
        return
    provider = providers.get(spec.provider)
    if provider is None and spec.provider == SELF_HOSTED:
        raise InvalidInput(
            "There is no self-hosted worker. Register one: hodei worker register", field="provider"
        )
    if provider is None:
        known = ", ".join(sorted(providers)) or "none"
        raise InvalidInput(
            f"There is no provider {spec.provider!r}. Name one of: auto, {known}.", field="provider"
        )
    missing = missing_labels(spec, provider)
    if missing and provider.provider_type != SELF_HOSTED:  # there each worker has a label of its own
        raise InvalidInput(
            f"Provider {provider.name} does not have the labels {missing}. Name another one, or auto.",
            field="required_labels",
        )
    can = provider.capabilities
    if not can:
        return
    if spec.image is not None and not can.get("images"):
        raise InvalidInput(
            f"Provider {provider.name} runs no images. Leave --image out or use docker.", field="image"
        )
    for field_name, wanted, able in (
        ("cpu", spec.cpu, can.get("cpu_limits")),
        ("memory", spec.memory_bytes, can.get("memory_limits")),
    ):
        if wanted is not None and not able:
            reason = can.get("limits_reason") or "it cannot limit this"
            raise InvalidInput(
                f"Provider {provider.name} cannot hold a job to --{field_name}: {reason}.", field=field_name
            )
