"""The chaos suite's own judge: what it must see, planted one by one in a storm in which all was well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from support import chaos_verdict
from support.chaos_arena import SCALED
from support.chaos_jobs import KINDS, Submitted
from support.chaos_storm import Storm
from support.chaos_verdict import Attempt, Event, Facts, judge
from support.chaos_witness import LINES_PER_TICK, read_witness

from hodei.domain.ids import worker_id

JOB = uuid5(UUID(int=0), "the job")
TICKS = 3
FIRST, SECOND = str(worker_id(JOB, 1, 0)), str(worker_id(JOB, 2, 1))


@dataclass
class Looked:
    """One job that lost its first worker to a fault and succeeded in its second attempt, and all that was seen of it."""

    witness: Path
    disturbed: dict[str, str] = field(default_factory=lambda: {FIRST: "its agent was killed"})
    engine_outages: list[tuple[float, float]] = field(default_factory=list)
    door_outages: list[tuple[float, float]] = field(default_factory=list)
    scale: Any = SCALED
    left: list[str] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    names: list[str] = field(default_factory=lambda: ["key"])

    @contextmanager
    def api(self) -> Iterator[Looked]:
        yield self

    def log_text(self, job_id: str, *, attempt: int) -> str:
        return self.texts[attempt]

    def facts(self) -> Facts:
        jobs = {str(JOB): self.row} | {
            str(uuid5(JOB, str(number))): self.row | {"name": name}
            for number, name in enumerate(self.names[1:])
        }
        return Facts(
            jobs=jobs if self.names else {},
            attempts={str(JOB): self.attempts},
            events={str(JOB): self.events},
            workers={each: ("process", 0.0, 100.0) for each in (FIRST, SECOND)},
            witness=read_witness(self.witness),
        )

    def wrong(self, monkeypatch: pytest.MonkeyPatch) -> set[str]:
        monkeypatch.setattr(chaos_verdict, "read_facts", lambda arena: self.facts())
        job = Submitted(key="key", job_id=str(JOB), kind=KINDS["succeeds"], provider="process")
        storm = Storm(submitted=[job], hits={}, misses=Counter(), cancels=Counter(), left=self.left)
        return set(judge(self, storm).wrong)  # type: ignore[arg-type]

    def live(self, attempt: int, began: float, *, ended: bool, life: str = "1") -> None:
        """The file that this start of the script wrote: a tick each second."""
        notes = [f"start {began}", *(f"tick {began + tick}" for tick in range(TICKS))]
        notes += [f"end {began + TICKS}"] if ended else []
        (self.witness / f"{JOB}.{attempt}.{life}").write_text("".join(f"{note}\n" for note in notes))


def lines(attempt: int, ticks: int = TICKS) -> str:
    return "".join(f"line {n} of attempt {attempt}\n" for n in range(1, ticks * LINES_PER_TICK + 1))


def ended(state: str, at: float) -> Event:
    return Event(kind="JobStatusChanged", payload={"new_state": state}, at=at)


@pytest.fixture
def looked(tmp_path: Path) -> Looked:
    seen = Looked(witness=tmp_path)
    seen.live(1, 10.0, ended=False)
    seen.live(2, 30.0, ended=True)
    seen.texts = {1: lines(1), 2: lines(2)}
    seen.row = {"name": "key", "state": "SUCCEEDED", "attempts": 2, "infra": 1, "user_left": 0, "max": 1}
    seen.row |= {"code": None, "error": None}
    common = {"job_id": str(JOB)}
    seen.attempts = [
        Attempt(**common, attempt=1, state="lost", reported=False, log_complete=False, worker_id=FIRST),
        Attempt(**common, attempt=2, state="completed", reported=True, log_complete=True, worker_id=SECOND),
    ]
    retried = {"attempt": 1, "paid_by": "infrastructure", "error_code": "ERR_2006"}
    seen.events = [Event(kind="JobRetried", payload=retried, at=20.0), ended("SUCCEEDED", 40.0)]
    return seen


def test_a_storm_in_which_all_was_well_has_only_zeros(
    looked: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked.wrong(monkeypatch) == set()


def change(number: int, **fields: Any) -> Callable[[Looked], None]:
    def apply(looked: Looked) -> None:
        looked.attempts[number - 1] = replace(looked.attempts[number - 1], **fields)

    return apply


PLANTED: dict[str, tuple[str, Callable[[Looked], object]]] = {
    "the second attempt began while the first one lived": (
        "overlapping attempts",
        lambda looked: looked.live(2, 11.5, ended=True),
    ),
    "an attempt was started twice": (
        "side effects beyond one per attempt",
        lambda looked: looked.live(2, 40.0, ended=True, life="2"),
    ),
    "something ran that is in no table": (
        "side effects beyond one per attempt",
        lambda looked: looked.live(3, 50.0, ended=True),
    ),
    "the job has not ended": ("lost jobs", lambda looked: looked.row.update(state="RUNNING")),
    "the job is gone": ("lost jobs", lambda looked: looked.names.clear()),
    "two jobs were made for one key": (
        "jobs made twice for one key",
        lambda looked: looked.names.append("key"),
    ),
    "it ended twice": ("jobs with two ends", lambda looked: looked.events.append(ended("FAILED", 41.0))),
    "it failed for no reason": (
        "jobs with an end that is not theirs",
        lambda looked: looked.row.update(state="FAILED", code="ERR_2006"),
    ),
    "no fault had hit the worker that was lost": (
        "attempts beyond those that the policy allows",
        lambda looked: looked.disturbed.clear(),
    ),
    "more retries than the budget has": (
        "attempts beyond those that the policy allows",
        lambda looked: looked.row.update(infra=4),
    ),
    "it succeeded without having run to its end": (
        "ended well without having run to the end",
        lambda looked: looked.live(2, 30.0, ended=False),
    ),
    "a container is left": (
        "containers, processes and workers left after 60 s",
        lambda looked: looked.left.append("container hodei-worker-1 Exited (137)"),
    ),
    "a saga is open": (
        "sagas stuck",
        lambda looked: looked.left.append("saga ('1', 'RECOVERY', 'IN_PROGRESS')"),
    ),
    "a line is missing": (
        "incomplete logs without their mark",
        lambda looked: looked.texts.update({2: lines(2).replace("line 3 of attempt 2\n", "")}),
    ),
    "a line is there twice": (
        "incomplete logs without their mark",
        lambda looked: looked.texts.update({2: lines(2) + "line 3 of attempt 2\n"}),
    ),
    "lines of another attempt are there": (
        "incomplete logs without their mark",
        lambda looked: looked.texts.update({2: lines(1)}),
    ),
    "the end is missing of a log that is said to be whole": (
        "incomplete logs without their mark",
        lambda looked: looked.texts.update({2: lines(2, TICKS - 1)}),
    ),
    "a log that came whole is said not to be": (
        "incomplete logs without their mark",
        change(2, log_complete=False),
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_each_planted_fault_is_counted_where_it_belongs(
    looked: Looked, planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, plant = PLANTED[planted]

    plant(looked)

    assert row in looked.wrong(monkeypatch)
