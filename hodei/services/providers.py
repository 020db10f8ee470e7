"""Providers: what is configured, and what their health checks find."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import structlog

from hodei.errors import NotFound
from hodei.ports import Platform
from hodei.providers.contract import Health, ProviderError
from hodei.storage.transaction import Row

log = structlog.get_logger(__name__)


def provider_view(row: Row) -> dict[str, Any]:
    """A provider in the shape of ``docs/reference/http.md``."""
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
    return {name: row[name] for name in names} | {"type": row.provider_type, "status": row.status.lower()}


def list_providers(platform: Platform) -> list[dict[str, Any]]:
    """All providers, in the order in which dispatch looks at them."""
    with platform.database.begin() as tx:
        return [provider_view(row) for row in tx.rows("provider_list")]


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
    after = _find(platform, id_or_name)
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


def check_and_record(platform: Platform, row: Row) -> Health:
    """Ask the provider how it is; its status follows, unless an operator set another. A change is an event."""
    capabilities: dict[str, Any] = {}
    try:
        provider = platform.providers.get(row.id)
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
