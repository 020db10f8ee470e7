"""A server without access to providers tells what the clock found, and judges none of them by what it cannot reach itself."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from support.core import Core

from hodei.errors import Conflict
from hodei.ports import Platform
from hodei.services import providers


@pytest.fixture
def without_access(core: Core) -> Platform:
    return replace(
        core.platform, settings=core.platform.settings.model_copy(update={"provider_access": False})
    )


@pytest.mark.parametrize(
    ("status", "reason", "ok"),
    [("ACTIVE", None, True), ("UNHEALTHY", "Docker does not answer.", False)],
)
def test_a_providers_health_is_what_was_found_last(
    core: Core, without_access: Platform, status: str, reason: str | None, ok: bool
) -> None:
    # given a provider that nobody could reach from here
    provider_id = core.provider("far", kind="docker", status=status)
    core.sql(
        "UPDATE provider_configs SET status_reason = :reason WHERE id = :id", id=provider_id, reason=reason
    )
    before = row(core, provider_id)

    # when
    health = providers.check_provider(without_access, str(provider_id))

    # then
    assert health["ok"] is ok and health["status"] == status.lower()
    assert health["message"] == (reason or "It worked when the clock looked.")
    assert row(core, provider_id) == before, "nothing was written down"


def test_a_probe_is_refused_with_its_reason(core: Core, without_access: Platform) -> None:
    provider_id = core.provider("far", kind="kubernetes")

    with pytest.raises(Conflict, match="HODEI_PROVIDER_ACCESS"):
        providers.probe_provider(without_access, str(provider_id))


def row(core: Core, provider_id: UUID) -> object:
    return core.sql("SELECT to_jsonb(p) FROM provider_configs p WHERE id = :id", id=provider_id)
