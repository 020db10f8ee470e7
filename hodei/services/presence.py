"""A process that says that it is there: its row among the loops, written again every few seconds while it is well."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from hodei.storage.database import Database

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
BREAK_S = 3 * INTERVAL_S
"""Who has not said it for so long was away, whatever kept it."""
ALWAYS_WELL: Callable[[], bool] = lambda: True  # noqa: E731


class Presence:
    """Keeps ``<kind>:<owner>`` fresh from a thread of its own; forgotten at :meth:`stop`.

    ``well`` is asked each time: a process that lives and does nothing is not shown as present. Its row says since when it is
    there without a break, by the database's clock: a machine that slept, or a clock that was set, is a break.
    """

    def __init__(
        self, database: Database, kind: str, owner: str, *, well: Callable[[], bool] = ALWAYS_WELL
    ) -> None:
        self._database = database
        self._name = f"{kind}:{owner}"
        self._owner = owner
        self._well = well
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"presence {kind}", daemon=True)

    def start(self) -> Presence:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Say that it has left."""
        self._stopping.set()
        self._thread.join(2)

    def _run(self) -> None:
        anew = True
        while True:
            try:
                if self._well():
                    self._say(anew=anew)
                    anew = False
            except Exception as error:
                log.debug("presence.not_said", name=self._name, reason=str(error))
                anew = True  # agents could not reach anything through us meanwhile
            if self._stopping.wait(INTERVAL_S):
                break
        try:
            with self._database.glance() as tx:
                tx.execute("loop_forget", name=self._name, owner=self._owner)
        except Exception as error:
            log.debug("presence.not_forgotten", name=self._name, reason=str(error))

    def _say(self, *, anew: bool) -> None:
        with self._database.glance() as tx:
            tx.execute(
                "presence_say",
                name=self._name,
                owner=self._owner,
                lease_s=BREAK_S,
                interval_s=INTERVAL_S,
                anew=anew,
            )
