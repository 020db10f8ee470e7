"""Memory that starting took and running does not need, and a garbage collector that stops nobody for long."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

YOUNG, MIDDLE, OLD = 700, 10, 150
"""Thresholds of the garbage collector (`gc.set_threshold`). Python's own, but the oldest generation is looked through a
fifteenth as often: with a thousand waiting requests that takes 100 ms, in which nothing is answered, and finds little."""
SPARE = 100_000
"""So many objects, and as many as there were at the last look at everything, are left unlooked at: some ten megabytes."""


def give_back_memory() -> None:
    """Once start-up is over: what it made is never looked through again, and freed pages go back to the system.

    Saves some 7 MB. Without glibc the pages are kept.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class ShortPauses:
    """What has outlived a look at the oldest generation is left out of the next ones, so that a look takes as long as there
    is new, not as long as there is at all.

    A waiting request is freed when it ends, whatever the collector does; only garbage in circles waits for a look at
    everything, which comes when what is left out has doubled. Start one in a process, after :func:`give_back_memory`.
    """

    def __init__(self, *, spare: int = SPARE) -> None:
        self._spare = spare
        self._most = gc.get_freeze_count() + spare
        self._looks_at_everything = False

    def start(self) -> None:
        gc.callbacks.append(self._collected)

    def stop(self) -> None:
        gc.callbacks.remove(self._collected)

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase != "stop" or info["generation"] < 2:
            return
        gc.freeze()
        left_out = gc.get_freeze_count()
        if self._looks_at_everything:
            self._looks_at_everything = False
            self._most = 2 * left_out + self._spare
        elif left_out > self._most:
            self._looks_at_everything = True
            gc.unfreeze()
