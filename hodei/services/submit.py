"""Submitting jobs: the row, its event and its outbox row in one transaction; waking the dispatcher after it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hodei.domain.ids import new_id
from hodei.domain.job import JobSpec
from hodei.errors import InvalidInput
from hodei.ports import Platform
from hodei.services.idempotency import RequestKey, once
from hodei.services.jobs import job_view
from hodei.storage.transaction import Row, Transaction

MAX_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to be submitted. ``secrets`` are name → value, and are nowhere else."""

    name: str
    spec: JobSpec
    priority: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    pipeline_id: UUID | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


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

    With ``key``, a request that is sent again gets the first answer. Raises Conflict for a key with another body,
    InvalidInput for an unknown provider, or for something that the named provider cannot give.
    """
    if not 1 <= len(batch) <= MAX_BATCH:
        raise InvalidInput(f"A batch holds 1 to {MAX_BATCH} jobs; this one has {len(batch)}.", field="jobs")
    with platform.database.begin() as tx:
        return once(tx, key, lambda: _store(platform, tx, batch, actor=actor, request_id=request_id))


def _store(
    platform: Platform, tx: Transaction, batch: list[NewJob], *, actor: str, request_id: str | None
) -> list[dict[str, Any]]:
    providers = {row.name: row for row in tx.rows("provider_list")}
    for new in batch:
        _check_provider(new.spec, providers)
    documents = [_document(new, request_id) for new in batch]
    rows = tx.rows("jobs_insert", jobs=json.dumps(documents), actor=actor, request_id=request_id)
    by_id = {str(row.id): row for row in rows}
    for new, document in zip(batch, documents, strict=True):
        for name, value in new.secrets.items():
            ciphertext = platform.vault.encrypt(value)
            tx.execute("secret_insert", owner_id=document["id"], name=name, ciphertext=ciphertext)
    tx.after_commit(platform.courier.look)
    tx.after_commit(platform.courier.relay)
    return [job_view(by_id[document["id"]]) for document in documents]


def _document(new: NewJob, request_id: str | None) -> dict[str, Any]:
    """A job as ``jobs_insert`` takes it."""
    created = {
        "name": new.name,
        "provider": new.spec.provider,
        "priority": new.priority,
        "request_id": request_id,
    }
    return {
        "id": str(new_id()),
        "event_id": str(new_id()),
        "name": new.name,
        "spec": new.spec.to_json(),
        "held": new.spec.is_held,
        "requested_provider": new.spec.provider,
        "pipeline_id": str(new.pipeline_id) if new.pipeline_id else None,
        "priority": new.priority,
        "user_retries": new.spec.retries,
        "labels": new.labels,
        "payload": created,
    }


def _check_provider(spec: JobSpec, providers: dict[str, Row]) -> None:
    if spec.provider == "auto":
        return
    provider = providers.get(spec.provider)
    if provider is None:
        known = ", ".join(sorted(providers)) or "none"
        raise InvalidInput(
            f"There is no provider {spec.provider!r}. Name one of: auto, {known}.", field="provider"
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
