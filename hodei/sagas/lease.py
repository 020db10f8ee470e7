"""The lease on a step that works outside the database: renewed while it works, left to run out when its runner dies."""

from __future__ import annotations

import threading
from contextvars import copy_context
from uuid import UUID

import structlog

from hodei.sagas.audit import LEASE_S
from hodei.storage.database import Database

log = structlog.get_logger(__name__)


class Lease:
    """Renews a saga's lease every third of its length, from a thread that is started only for work longer than that.

    A renewal that fails is tried again; when none succeeds the lease runs out and another runner takes over, and the
    engine notices before it records anything.
    """

    def __init__(
        self, database: Database, saga_id: UUID, owner: str, *, release_on_error: bool = False
    ) -> None:
        self.database = database
        self.saga_id = saga_id
        self.owner = owner
        self.release_on_error = release_on_error
        self._over = threading.Event()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Lease:
        self._schedule()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        if kind is not None and self.release_on_error:
            self._renew(0.0)

    def _schedule(self) -> None:
        said = copy_context()  # what the log says there is about the same job
        self._timer = threading.Timer(LEASE_S / 3, said.run, (self._beat,))
        self._timer.daemon = True
        self._timer.start()

    def _beat(self) -> None:
        if self._over.is_set():
            return
        self._renew(LEASE_S)
        self._schedule()

    def _renew(self, lease_s: float) -> None:
        try:
            with self.database.begin() as tx:
                tx.execute(
                    "saga_renew_lease",
                    id=self.saga_id,
                    owner=self.owner,
                    lease_s=lease_s,
                    nudge_s=lease_s + 5,
                )
        except Exception:
            log.warning("saga.lease_not_renewed", saga_id=str(self.saga_id), exc_info=True)
