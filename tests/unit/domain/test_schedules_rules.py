"""What becomes of the times of a schedule: catch-up, jitter, overlap, failures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei.domain.schedule import (
    MAX_WAITING,
    Act,
    CatchUp,
    Chosen,
    Overlap,
    act,
    choose,
    due_at,
    failures_after,
    jitter,
)

ID = UUID("0196a3c4-0000-7000-8000-000000000001")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def ago(*seconds: float) -> tuple[datetime, ...]:
    return tuple(NOW - timedelta(seconds=each) for each in seconds)


def chosen(catch_up: CatchUp, *seconds: float, limit: int = 100, jitter_s: float = 0.0) -> Chosen:
    return choose(ago(*seconds), schedule_id=ID, jitter_s=jitter_s, now=NOW, catch_up=catch_up, limit=limit)


@pytest.mark.parametrize("catch_up", CatchUp)
def test_what_is_not_late_fires_whatever_catch_up_says(catch_up: CatchUp) -> None:
    assert chosen(catch_up, 60, 1, 0) == Chosen(fire=ago(60, 1, 0))


def test_none_makes_up_for_nothing_and_says_what_was_missed() -> None:
    assert chosen(CatchUp.NONE, 300, 200, 100, 5) == Chosen(
        fire=ago(5), missed=3, first_missed=ago(300)[0], last_missed=ago(100)[0]
    )


def test_last_makes_up_once_for_all_that_was_missed() -> None:
    assert chosen(CatchUp.LAST, 300, 200, 100) == Chosen(
        fire=ago(100), missed=2, first_missed=ago(300)[0], last_missed=ago(200)[0]
    )


def test_last_makes_up_for_nothing_when_one_is_in_time() -> None:
    assert chosen(CatchUp.LAST, 300, 200, 5) == Chosen(
        fire=ago(5), missed=2, first_missed=ago(300)[0], last_missed=ago(200)[0]
    )


def test_all_makes_up_for_the_latest_up_to_its_limit() -> None:
    assert chosen(CatchUp.ALL, 400, 300, 200, 100, 5, limit=2) == Chosen(
        fire=ago(200, 100, 5), missed=2, first_missed=ago(400)[0], last_missed=ago(300)[0]
    )


@given(st.lists(st.integers(0, 10_000), unique=True), st.sampled_from(CatchUp), st.integers(1, 5))
def test_every_time_fires_or_is_counted_as_missed(seconds: list[int], catch_up: CatchUp, limit: int) -> None:
    seconds.sort(reverse=True)

    made = chosen(catch_up, *seconds, limit=limit)

    assert len(made.fire) + made.missed == len(seconds)
    assert list(made.fire) == sorted(made.fire)
    dropped = [time for time in ago(*seconds) if time not in made.fire]
    assert (made.first_missed, made.last_missed) == ((dropped[0], dropped[-1]) if dropped else (None, None))


def test_jitter_is_within_its_bound_the_same_for_everybody_and_different_for_different_times() -> None:
    draws = [jitter(ID, NOW + timedelta(minutes=n), 600) for n in range(200)]

    assert draws == [jitter(ID, NOW + timedelta(minutes=n), 600) for n in range(200)]
    assert all(0 <= draw < 600 for draw in draws)
    assert len(set(draws)) == 200 and max(draws) > 500 and min(draws) < 100
    assert jitter(ID, NOW, 0) == 0
    assert jitter(ID, NOW, 600) != jitter(UUID(int=1), NOW, 600)
    assert due_at(ID, NOW, 600) == NOW + timedelta(seconds=jitter(ID, NOW, 600))


def test_a_firing_that_jitter_put_off_is_not_late() -> None:
    put_off = next(n for n in range(1000) if jitter(ID, NOW - timedelta(seconds=n + 3000), 3600) > n + 2950)
    seconds = put_off + 3000

    assert chosen(CatchUp.NONE, seconds, jitter_s=3600).fire == ago(seconds)


@pytest.mark.parametrize(
    ("overlap", "live", "waiting", "expected"),
    [
        *((overlap, 0, 0, Act.START) for overlap in Overlap),
        (Overlap.ALLOW, 3, 0, Act.START),
        (Overlap.SKIP, 1, 0, Act.SKIP),
        (Overlap.QUEUE, 1, 0, Act.WAIT),
        (Overlap.QUEUE, 1, 1, Act.WAIT),
        (Overlap.QUEUE, MAX_WAITING + 1, MAX_WAITING, Act.SKIP),
        (Overlap.REPLACE, 1, 0, Act.REPLACE),
    ],
)
def test_what_happens_while_a_run_is_going_is_what_overlap_says(
    overlap: Overlap, live: int, waiting: int, expected: Act
) -> None:
    assert act(overlap, live=live, waiting=waiting) is expected


@pytest.mark.parametrize(
    ("before", "ends", "after"),
    [
        (0, ["FAILED", "TIMEOUT"], 2),
        (2, ["SUCCEEDED"], 0),
        (1, ["SUCCEEDED", "FAILED"], 1),
        (2, ["CANCELLED", None], 2),
        (2, [], 2),
    ],
)
def test_failures_are_counted_in_a_row(before: int, ends: list[str | None], after: int) -> None:
    assert failures_after(before, ends) == after
