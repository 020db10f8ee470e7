"""Whether a 403 is the server's word, or that of one which has just started and does not know anybody's rights yet.

An API server answers as soon as it listens; until it has read the roles, which takes it a second or so, it forbids
everything to everybody but its masters, and admission says that it is "not yet ready to handle request".
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATH = "/readyz"
"""Answers 200 once the server knows its roles. Every account may ask."""

STARTING_S = 5.0
"""How long a server that forbids even to be asked is taken for one that is starting."""

_PAUSE_S = 0.25


def wait(readyz: Callable[[], int | None], *, deadline: float) -> None:
    """Return when the server is ready, has had :data:`STARTING_S`, or at the monotonic ``deadline``.

    ``readyz``: the status with which it answers there; None when there is no answer.
    """
    until = min(deadline, time.monotonic() + STARTING_S)
    while readyz() != 200 and time.monotonic() + _PAUSE_S < until:
        time.sleep(_PAUSE_S)
