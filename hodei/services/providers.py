"""Providers: what is configured, and what their health checks find."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import structlog

from hodei.domain.causes import Failure
from hodei.errors import Conflict, NotFound
from hodei.ports import Platform
from hodei.providers.configurations import shown
from hodei.providers.contract import Health, Probing, ProviderError, as_provider_errors
from hodei.services.paging import Page, decode_name, encode_name
from hodei.storage.transaction import Row

log = structlog.get_logger(__name__)

PROCESSES_ARE_OFF = "processes of this machine are switched off (HODEI_PROCESS_ENABLED)"


def provider_view(row: Row) -> dict[str, Any]:
    """A provider in the shape of ``docs/reference/http.md``; secrets in its configuration are hidden."""
    names = (
        "id",
        "name",
        "status_reason",
        "priority",
        "max_workers",
        "workers",
        "labels",
        "capabilities",
        "checked_at",
        "created_at",
        "updated_at",
    )
    return {name: row[name] for name in names} | {
        "type": row.provider_type,
        "status": row.status.lower(),
        "config": shown(row.config),
    }


def list_providers(platform: Platform, *, cursor: str | None = None, limit: int = 50) -> Page:
    """A page of the providers, in the order in which dispatch looks at them."""
    after_priority, after_name = decode_name(cursor)
    with platform.database.begin() as tx:
        rows = tx.rows("provider_page", after_priority=after_priority, after_name=after_name, limit=limit + 1)
    shown = rows[:limit]
    more = encode_name(shown[-1].priority, shown[-1].name) if len(rows) > limit else None
    return Page(items=[provider_view(row) for row in shown], next_cursor=more)


def get_provider(platform: Platform, id_or_name: str) -> dict[str, Any]:
    """One provider. Raises NotFound."""
    return provider_view(_find(platform, id_or_name))


def _find(platform: Platform, id_or_name: str) -> Row:
    with platform.database.begin() as tx:
        row = tx.row("provider_find", key=id_or_name)
    if row is None:
        raise NotFound(f"There is no provider {id_or_name!r}. List them with: hodei provider list")
    return row


def check_provider(platform: Platform, id_or_name: str) -> dict[str, Any]:
    """Look now whether the provider works, write down what was found, and answer it."""
    row = _find(platform, id_or_name)
    health = check_and_record(platform, row)
    return _health_view(row, health, _find(platform, id_or_name))


def probe_provider(platform: Platform, id_or_name: str) -> dict[str, Any]:
    """Have a worker try the whole way to worker-manager, and answer what it found. Nothing is written down.

    Raises NotFound, and Conflict for a provider that has no such probe.
    """
    row = _find(platform, id_or_name)
    if not platform.settings.provider_access:
        raise Conflict(
            "This server has no access to providers (HODEI_PROVIDER_ACCESS=0), so it cannot probe one."
        )
    try:
        provider = platform.providers.get(row.id)
        if not isinstance(provider, Probing):
            raise Conflict(f"Provider {row.name} has no probe: its workers run where its health check looks.")
        health = provider.probe()
    except ProviderError as error:
        health = Health(ok=False, message=str(error))
    return _health_view(row, health, _find(platform, id_or_name))


def _health_view(row: Row, health: Health, after: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "type": row.provider_type,
        "ok": health.ok,
        "status": after.status.lower(),
        "message": health.message,
        "checks": health.checks,
        "checked_at": after.checked_at,
    }


def _found_last(row: Row) -> Health:
    """What the clock wrote down, which looks every few seconds."""
    message = row.status_reason or "It worked when the clock looked."
    return Health(ok=row.status in ("ACTIVE", "DEGRADED"), message=message)


def check_and_record(platform: Platform, row: Row) -> Health:
    """Ask the provider how it is; its status follows, unless an operator set another. A change is an event.

    A process without access to providers answers what was found last, and writes nothing.
    """
    if not platform.settings.provider_access:
        return _found_last(row)
    capabilities: dict[str, Any] = {}
    try:
        if row.provider_type == "process" and not platform.settings.process_provider:
            raise ProviderError(Failure(code="ERR_3006", message=PROCESSES_ARE_OFF))
        with as_provider_errors():
            provider = platform.providers.get(row.id)
            with platform.provider_call(provider, "health"):
                health = provider.health()
            if health.ok:
                capabilities = asdict(provider.capabilities())
    except ProviderError as error:
        health = Health(ok=False, message=str(error))
    status = "ACTIVE" if health.ok else "UNHEALTHY"
    with platform.database.begin() as tx:
        found = tx.scalar(
            "provider_set_checked",
            id=row.id,
            status=status,
            reason=None if health.ok else health.message,
            capabilities=capabilities or row.capabilities,
        )
        if found != row.status:
            tx.record(
                "provider",
                row.id,
                "ProviderStatusChanged",
                {"old_status": row.status, "new_status": found, "reason": health.message},
                actor="health-check",
            )
            if found == "ACTIVE":
                tx.after_commit(platform.courier.look)
    return health
