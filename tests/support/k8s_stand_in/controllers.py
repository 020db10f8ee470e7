"""The loops that bring the world to what the store says: each looks again after every change."""

from __future__ import annotations

import threading
import traceback
from abc import ABC, abstractmethod

from support.k8s_stand_in.store import Store

RESYNC_S = 0.5


class Controller(ABC):
    """A thread that calls :meth:`sync` when something has changed, and now and then without it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"k8s-{type(self).__name__.lower()}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        with self.store.changed:
            self.store.changed.notify_all()
        self._thread.join(10)

    @abstractmethod
    def sync(self) -> None:
        """Do what there is to do, given the store as it is."""

    def _run(self) -> None:
        seen = -1
        while not self._stopping.is_set():
            with self.store.changed:
                if self.store.revision == seen:
                    self.store.changed.wait(RESYNC_S)
                seen = self.store.revision
            try:
                self.sync()
            except Exception:  # one bad object must not end the loop; what is wrong is said
                traceback.print_exc()
