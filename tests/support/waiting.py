"""Tests wait for facts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")


def until(fact: Callable[[], Fact], *, within_s: float = 60.0, what: str = "") -> Fact:
    """The first true answer of ``fact``; fails with the last answer when none comes in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = fact()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{what or 'the fact'} did not come true within {within_s:g} s; last: {found!r}"
            )
        time.sleep(0.02)
