"""Providers as people manage them: adding, changing, switching on and off, removing.

A provider that is DISABLED or in MAINTENANCE gets no new work; what runs there goes on, and its workers are watched and
ended as ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from hodei.domain.ids import (
    DOCKER_PROVIDER_ID,
    KUBERNETES_PROVIDER_ID,
    PROCESS_PROVIDER_ID,
    SELF_HOSTED_PROVIDER_ID,
    new_id,
)
from hodei.domain.states import ProviderStatus
from hodei.errors import Conflict, NotFound
from hodei.ports import Platform
from hodei.providers.configurations import check_config
from hodei.services.idempotency import RequestKey, answer_anew, once
from hodei.services.providers import check_and_record, get_provider, provider_view
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

BUILT_IN = frozenset(
    {DOCKER_PROVIDER_ID, KUBERNETES_PROVIDER_ID, PROCESS_PROVIDER_ID, SELF_HOSTED_PROVIDER_ID}
)
OFF = frozenset({ProviderStatus.DISABLED, ProviderStatus.MAINTENANCE})
"""What only a person sets, and only a person ends."""
UNCHECKED = "not checked yet"
BY_SETTINGS = "switched off by the settings"
"""The reason of a provider that the settings switch off; see ``provider_set_disabled_by_settings``."""


@dataclass(frozen=True, kw_only=True)
class NewProvider:
    """A provider to be added. ``status`` ACTIVE: it is used as soon as its first check finds it well."""

    name: str
    provider_type: str
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    priority: int = 0
    max_workers: int = 8
    labels: dict[str, str] = field(default_factory=dict)
    status: ProviderStatus = ProviderStatus.ACTIVE
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProviderChange:
    """What is to be different; None: it stays. ``config`` is merged key by key, and None as a value removes the key."""

    config: dict[str, Any] | None = field(default=None, repr=False)
    priority: int | None = None
    max_workers: int | None = None
    labels: dict[str, str] | None = None
    status: ProviderStatus | None = None
    reason: str | None = None


def add_provider(
    platform: Platform, new: NewProvider, *, actor: str, key: RequestKey | None = None
) -> dict[str, Any]:
    """Store the provider, look how it is, and answer it.

    Raises InvalidInput for a configuration that its adapter does not take, naming the key, and Conflict for a name that is
    taken, or for processes where they are switched off.
    """
    check_config(new.provider_type, new.config)
    if new.provider_type == "process" and not platform.settings.process_provider:
        raise Conflict("Processes of this machine are switched off here: set HODEI_PROCESS_ENABLED=1 first.")
    provider_id = new_id()
    with platform.database.begin() as tx:
        answer = once(tx, key, lambda: _insert(tx, provider_id, new, actor))
    if str(answer["id"]) != str(provider_id):
        return answer  # asked before, with the same key
    answer = _looked_at(platform, str(provider_id))
    with platform.database.begin() as tx:
        answer_anew(tx, key, answer)
    return answer


def _insert(tx: Transaction, provider_id: UUID, new: NewProvider, actor: str) -> dict[str, Any]:
    off = new.status in OFF
    inserted = tx.execute(
        "provider_insert",
        id=provider_id,
        name=new.name,
        provider_type=new.provider_type,
        status=new.status if off else ProviderStatus.UNHEALTHY,
        status_reason=_reason(new.status, new.reason) if off else UNCHECKED,
        config=new.config,
        priority=new.priority,
        max_workers=new.max_workers,
        labels=new.labels,
    )
    if not inserted:
        raise Conflict(f"There is a provider {new.name!r} already. Choose another name.", field="name")
    payload = {"name": new.name, "type": new.provider_type, "max_workers": new.max_workers}
    tx.record("provider", provider_id, "ProviderCreated", payload, actor=actor)
    return provider_view(_found(tx, str(provider_id)))


def change_provider(
    platform: Platform, id_or_name: str, change: ProviderChange, *, actor: str
) -> dict[str, Any]:
    """Change what is given. What was made before stays as it was made; new workers are made as the provider is now.

    Its name is fixed: jobs ask for it. Raises NotFound; InvalidInput for a configuration that its adapter does not take;
    Conflict for one that the settings switch off.
    """
    with platform.database.begin() as tx:
        held = _hold(tx, id_or_name)
        changed = _apply(tx, held, change)
        if changed:
            payload = {"changed": changed}
            tx.record("provider", held.id, "ProviderChanged", payload, actor=actor)
        moved = change.status is not None and _move(tx, held, change.status, change.reason, actor)
        tx.after_commit(platform.providers.refresh)
        tx.after_commit(platform.courier.look)
    if moved or "config" in changed:
        return _looked_at(platform, str(held.id))
    return get_provider(platform, str(held.id))


def _apply(tx: Transaction, held: Row, change: ProviderChange) -> list[str]:
    """Write what is different; the names of the fields that are."""
    config = held.config if change.config is None else _merged(held.config, change.config)
    if config != held.config:
        check_config(held.provider_type, config)
    wanted: dict[str, Any] = {
        "config": config,
        "priority": held.priority if change.priority is None else change.priority,
        "max_workers": held.max_workers if change.max_workers is None else change.max_workers,
        "labels": held.labels if change.labels is None else change.labels,
    }
    changed = [name for name, value in wanted.items() if value != held[name]]
    if changed:
        tx.execute("provider_change", id=held.id, **wanted)
    return changed


def _merged(before: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (before | change).items() if value is not None}


def set_status(
    platform: Platform,
    id_or_name: str,
    status: ProviderStatus,
    *,
    actor: str,
    reason: str | None = None,
) -> dict[str, Any]:
    """Switch it off (DISABLED, MAINTENANCE) or on again (ACTIVE: it is looked at, and used when it is well).

    Asked again it answers the same. Raises NotFound, and Conflict for one that the settings switch off.
    """
    return change_provider(platform, id_or_name, ProviderChange(status=status, reason=reason), actor=actor)


def _move(tx: Transaction, held: Row, status: ProviderStatus, reason: str | None, actor: str) -> bool:
    """Set the status; True when it has to be looked at now."""
    if held.status == ProviderStatus.DISABLED and held.status_reason == BY_SETTINGS:
        if status is ProviderStatus.DISABLED:
            return False
        raise Conflict(
            f"Provider {held.name} is switched off by the settings (HODEI_{held.provider_type.upper()}_ENABLED): "
            "change them, and start the services again."
        )
    switched_on = status not in OFF
    if switched_on and held.status not in OFF:
        return False
    said = UNCHECKED if switched_on else _reason(status, reason)
    target = ProviderStatus.UNHEALTHY if switched_on else status
    if (held.status, held.status_reason) == (target, said):
        return False
    tx.execute("provider_set_status", id=held.id, status=target, reason=said)
    payload = {"old_status": held.status, "new_status": target, "reason": said}
    tx.record("provider", held.id, "ProviderStatusChanged", payload, actor=actor)
    return switched_on


def _reason(status: ProviderStatus, reason: str | None) -> str:
    if reason:
        return reason
    return "in maintenance" if status is ProviderStatus.MAINTENANCE else "switched off by an operator"


def remove_provider(platform: Platform, id_or_name: str, *, actor: str) -> None:
    """Forget a provider that nothing needs any more; what jobs and workers on record say of it stays in their events.

    Raises NotFound; Conflict for a built-in one, and while a worker or a job of it lives or a job waits for it by its name.
    """
    with platform.database.begin() as tx:
        held = _hold(tx, id_or_name)
        if held.id in BUILT_IN:
            raise Conflict(
                f"Provider {held.name} is a built-in one, and would be back at the next start. Switch it off: "
                f"hodei provider disable {held.name}"
            )
        use = tx.row("provider_in_use", id=held.id)
        assert use is not None
        if use.workers or use.jobs or use.waiting:
            raise Conflict(
                f"Provider {held.name} is in use: {use.workers} workers, {use.jobs} jobs there, {use.waiting} jobs "
                f"that wait for it. Switch it off first (hodei provider disable {held.name}), and wait for them or cancel them."
            )
        payload = {"name": held.name, "type": held.provider_type}
        tx.record("provider", held.id, "ProviderDeleted", payload, actor=actor)
        for query in ("provider_forget_in_jobs", "provider_forget_in_workers", "provider_forget_pulls"):
            tx.execute(query, id=held.id)
        tx.execute("provider_delete", id=held.id)


def provider_stats(platform: Platform, id_or_name: str) -> dict[str, Any]:
    """Its places, workers and jobs now, and how jobs ended and workers started there in the last day. Raises NotFound."""
    with platform.database.begin() as tx:
        row = _found(tx, id_or_name)
        workers = tx.rows("provider_workers_by_state", id=row.id)
        jobs = tx.rows("provider_jobs_by_state", id=row.id, name=row.name)
        ends = tx.rows("provider_ends", id=row.id)
        starts = tx.row("provider_starts", id=row.id)
    assert starts is not None
    counted = dict.fromkeys(("succeeded", "failed", "cancelled", "timeout"), 0)
    causes: dict[str, int] = {}
    for end in ends:
        counted[end.state.lower()] += end.jobs
        if end.error_code is not None:
            causes[end.error_code] = causes.get(end.error_code, 0) + end.jobs
    return {
        "id": row.id,
        "name": row.name,
        "type": row.provider_type,
        "status": row.status.lower(),
        "max_workers": row.max_workers,
        "places_taken": row.places_taken,
        "places_free": max(0, row.max_workers - row.places_taken),
        "workers": {item.state.lower(): item.workers for item in workers},
        "jobs": dict.fromkeys(("pending", "scheduled", "assigned", "running"), 0)
        | {item.state.lower(): item.jobs for item in jobs},
        "last_day": {
            "jobs": counted,
            "causes": causes,
            "workers_made": starts.made,
            "workers_connected": starts.connected,
            "start_p50_s": _seconds(starts.p50_s),
            "start_p95_s": _seconds(starts.p95_s),
        },
    }


def _seconds(value: Any) -> float | None:
    return None if value is None else round(float(value), 3)


def _looked_at(platform: Platform, provider_id: str) -> dict[str, Any]:
    """The provider after a look at how it is; one that is switched off is left alone."""
    with platform.database.begin() as tx:
        row = _found(tx, provider_id)
    if row.status not in OFF:
        check_and_record(platform, row)
    return get_provider(platform, provider_id)


def _found(tx: Transaction, id_or_name: str) -> Row:
    row = tx.row("provider_find", key=id_or_name)
    if row is None:
        raise _unknown(id_or_name)
    return row


def _hold(tx: Transaction, id_or_name: str) -> Row:
    row = tx.row("provider_hold", key=id_or_name)
    if row is None:
        raise _unknown(id_or_name)
    return row


def _unknown(id_or_name: str) -> NotFound:
    return NotFound(f"There is no provider {id_or_name!r}. List them with: hodei provider list")
