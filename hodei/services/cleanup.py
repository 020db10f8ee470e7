"""The sweep: looks both ways, at rows without a container and at containers without a row."""

from __future__ import annotations

from uuid import UUID

import structlog

from hodei.domain.ids import saga_id
from hodei.ports import Platform
from hodei.providers.contract import ProviderError
from hodei.sagas.registry import engine

log = structlog.get_logger(__name__)

ACTOR = "clock"
BATCH = 100


def sweep(platform: Platform) -> int:
    """Start a CLEANUP for what is left over of this deployment and has no one to end it; return how much that is.

    Things without this deployment's label are nobody's business here, and a provider that does not answer is passed over.
    """
    seen = _at_the_providers(platform)
    deployment = UUID(platform.database.deployment)
    with platform.database.begin() as tx:
        if tx.scalar("saga_is_open", job_id=deployment, subject_id=deployment, saga_type="CLEANUP"):
            return 0
        over = [row.id for row in tx.rows("workers_over", ids=list(seen))][:BATCH] if seen else []
        orphaned = tx.rows("executions_without_worker", limit=BATCH, lease_s=platform.settings.lease_over_s)
        if not over and not orphaned:
            return 0
        now = tx.scalar("now")
        engine(platform).start(
            tx,
            "CLEANUP",
            saga_id=saga_id("CLEANUP", deployment, int(now.timestamp() * 1000)),
            subject_id=deployment,
            correlation_id=deployment,
            actor=ACTOR,
            metadata={
                "workers": [{"worker_id": str(each), "provider_id": str(seen[each])} for each in over],
                "executions": [str(row.id) for row in orphaned],
            },
        )
    return len(over) + len(orphaned)


def _at_the_providers(platform: Platform) -> dict[UUID, UUID]:
    """The workers that the providers show under this deployment's label, each with its provider."""
    seen: dict[UUID, UUID] = {}
    for provider_id in platform.providers.ids():
        try:
            provider = platform.providers.get(provider_id)
            views = provider.list_workers(platform.database.deployment)
        except ProviderError as error:
            log.debug("leftovers.not_listed", provider_id=str(provider_id), reason=str(error))
            continue
        except Exception:  # a fault of one provider's own hides what the others left
            log.exception("leftovers.not_listed", provider_id=str(provider_id))
            continue
        seen |= {view.worker_id: provider_id for view in views}
    return seen
