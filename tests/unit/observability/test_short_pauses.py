"""The collector leaves out what it has looked at, and still finds all garbage in the end."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from hodei.observability.memory import ShortPauses


class Circle:
    """Freed by the collector alone."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def pauses() -> Iterator[None]:
    gc.collect()
    made = ShortPauses(spare=1000)
    made.start()
    gc.collect()  # all that this process holds is more than the spare
    gc.collect()
    yield
    made.stop()
    gc.unfreeze()


@pytest.mark.usefixtures("pauses")
def test_garbage_that_outlived_a_look_is_found_once_what_is_left_out_has_doubled() -> None:
    # given a circle that outlives a look, and is garbage then
    circle = Circle()
    seen = weakref.ref(circle)
    gc.collect()
    del circle

    # when looks come while there is little more
    gc.collect()

    # then they leave it out
    assert seen() is not None

    # when there is as much again, and more
    more = [[] for _ in range(gc.get_freeze_count() + 2000)]
    gc.collect()
    gc.collect()

    # then it is found
    assert seen() is None
    assert more


@pytest.mark.usefixtures("pauses")
def test_what_no_circle_holds_is_freed_at_once_though_it_is_left_out() -> None:
    lone = Circle()
    lone.itself = None  # type: ignore[assignment]
    seen = weakref.ref(lone)
    gc.collect()

    del lone

    assert seen() is None
