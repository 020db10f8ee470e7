"""Work in a folder that may hang: waited for a bounded time, found again, and finished by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from support.waiting import until

from hodei.logs import folder
from hodei.logs.folder import LogFolder

SHORT_S = 0.02


@pytest.fixture
def opened() -> Iterator[threading.Event]:
    """What the work waits for; a test that leaves some behind lets it go."""
    event = threading.Event()
    yield event
    event.set()


def test_what_is_over_in_time_is_answered_with_its_result_or_its_error() -> None:
    def fail() -> None:
        raise PermissionError(13, "not yours")

    assert LogFolder().do("one", lambda: 1, wait_s=10) == 1
    with pytest.raises(PermissionError, match="not yours"):
        LogFolder().do("fails", fail, wait_s=10)


def test_what_takes_longer_goes_on_and_hands_its_result_over_once(opened: threading.Event) -> None:
    # given
    place = LogFolder()
    late: list[bool] = []
    with pytest.raises(TimeoutError, match=r"longer than 0\.02 s"):
        place.do("slow", opened.wait, wait_s=SHORT_S, late=late.append)
    assert late == []

    # when
    opened.set()

    # then
    assert until(lambda: late) == [True]


def test_who_asks_again_waits_for_what_runs_and_gets_its_result(opened: threading.Event) -> None:
    # given
    place = LogFolder()
    late: list[str] = []
    with pytest.raises(TimeoutError):
        place.do("slow", lambda: opened.wait() and "first", wait_s=SHORT_S, late=late.append)

    # when
    threading.Timer(0.1, opened.set).start()

    # then
    assert place.do("slow", lambda: "second", wait_s=10) == "first"
    assert late == []
    assert place.do("slow", lambda: "third", wait_s=10) == "third"


def test_a_folder_that_hangs_costs_a_few_threads_and_later_ones_no_time(
    opened: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(folder, "MOST_LEFT", 2)
    place = LogFolder()
    for name in ("one", "two"):
        with pytest.raises(TimeoutError):
            place.do(name, opened.wait, wait_s=SHORT_S)

    # then
    begun: list[int] = []
    with pytest.raises(TimeoutError, match="2 others"):
        place.do("three", lambda: begun.append(3), wait_s=600)
    assert begun == []

    # and once it answers again, all is done as before
    opened.set()
    until(lambda: not place._running)
    place.do("three", lambda: begun.append(3), wait_s=10)
    assert begun == [3]
