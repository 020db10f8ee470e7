"""Pulling images: outside every step, so that a registry that hangs holds up nothing but the jobs that want its image."""

from __future__ import annotations

import threading
from uuid import UUID

import structlog

from hodei.domain.causes import Failure
from hodei.ports import Platform
from hodei.providers.contract import ProviderError
from hodei.sagas.engine import new_owner
from hodei.sagas.registry import engine

log = structlog.get_logger(__name__)

LEASE_S = 30.0
MOST_AT_ONCE = 16
"""Pulls of one process at the same time; the ones above that stay with the clock, which asks again."""

_running = threading.BoundedSemaphore(MOST_AT_ONCE)


def start_pull(platform: Platform, provider_id: UUID, image: str) -> bool:
    """Start to pull the image in a thread of its own, unless somebody does already. False: nothing was started."""
    if not _running.acquire(blocking=False):
        return False
    owner = new_owner()
    try:
        with platform.database.begin() as tx:
            claimed = tx.row("pull_claim", provider_id=provider_id, image=image, owner=owner, lease_s=LEASE_S)
        if claimed is None:
            _running.release()
            return False
        threading.Thread(
            target=_pull, args=(platform, provider_id, image, owner), name=f"pull {image}", daemon=True
        ).start()
    except BaseException:
        _running.release()
        raise
    return True


def _pull(platform: Platform, provider_id: UUID, image: str, owner: str) -> None:
    over = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(platform, provider_id, image, owner, over), name=f"lease of {image}", daemon=True
    )
    renewing.start()
    failure: Failure | None = None
    try:
        platform.providers.get(provider_id).prepare(image)
    except ProviderError as error:
        failure = error.failure
    except Exception as error:
        log.exception("pull.failed", image=image)
        failure = Failure(code="ERR_3007", message=f"Pulling {image} failed: {error}.")
    finally:
        over.set()
        _running.release()
    log.info("pull.ended", image=image, error_code=failure.code if failure else None)
    with platform.database.begin() as tx:
        tx.execute(
            "pull_done",
            provider_id=provider_id,
            image=image,
            owner=owner,
            state="FAILED" if failure else "PULLED",
            error_code=failure.code if failure else None,
            error_message=failure.message if failure else None,
        )
        for saga in tx.rows("pull_waiting_sagas", provider_id=str(provider_id), image=image):
            engine(platform).wake(tx, "PROVISIONING", saga.id, "CreateInfrastructure")


def _renew(platform: Platform, provider_id: UUID, image: str, owner: str, over: threading.Event) -> None:
    while not over.wait(LEASE_S / 3):
        try:
            with platform.database.begin() as tx:
                tx.execute("pull_renew", provider_id=provider_id, image=image, owner=owner, lease_s=LEASE_S)
        except Exception:
            log.warning("pull.lease_not_renewed", image=image, exc_info=True)
