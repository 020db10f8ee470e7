"""The storm: jobs come, faults hit at random moments, and in the end everything must be right."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from support.chaos_arena import Arena
from support.chaos_faults import Faults, Hit, Missed
from support.chaos_jobs import Submitted, Submitter
from support.platform import SERVICES
from support.waiting import until

PROCESSES = (*SERVICES, "controller", "beat")
"""What the storm needs two of: each may be hit without the others."""

LANES = 4
PAUSE_S = (0.2, 2.0)
"""Between two faults of a lane."""
MOST_MISSES = 25

TERMINAL = ("SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT")
GONE_WITHIN_S = 60.0
"""What is left of workers after the last job's end must be gone after that long (the lessons' bound after a crash)."""


@dataclass(kw_only=True)
class Storm:
    """What was submitted and what hit it."""

    submitted: list[Submitted]
    hits: dict[str, list[Hit]]
    misses: Counter[str]
    cancels: Counter[str]
    took_s: float = 0.0
    settled_s: float = 0.0
    left: list[str] = field(default_factory=list)


def run_storm(
    arena: Arena, *, jobs: int, each: int, providers: tuple[str, ...], in_flight: int, settle_within_s: float
) -> Storm:
    """At least so many jobs, every fault at least ``each`` times; then wait for the facts that say that all is over."""
    began = time.monotonic()
    submitter = Submitter(arena, providers, in_flight=in_flight)
    lanes = Lanes(Faults(arena, submitter), each, random.Random(arena.rng.random()))
    lanes.start()
    submitter.run(at_least=jobs, until_true=lanes.over)
    lanes.join()
    storm = Storm(
        submitted=submitter.submitted, hits=lanes.hits, misses=lanes.misses, cancels=submitter.cancels
    )
    storm.took_s = time.monotonic() - began
    _settle(arena, storm, settle_within_s)
    return storm


class Lanes:
    """A few lanes in which one fault follows another; one that missed is tried again at the end."""

    def __init__(self, faults: Faults, each: int, rng: random.Random) -> None:
        self.hits: dict[str, list[Hit]] = {name: [] for name in faults.by_name}
        self.misses: Counter[str] = Counter()
        self.over = threading.Event()
        self.failure: BaseException | None = None
        self._faults = faults
        self._rng = rng
        self._lock = threading.Lock()
        self._at_work = LANES
        self._plan = list(faults.by_name) * each
        rng.shuffle(self._plan)
        self._plan.sort(
            key=lambda name: "past" not in name
        )  # the longest begin first; the rest is in random order
        self._threads = [
            threading.Thread(target=self._run, name=f"lane {n}", daemon=True) for n in range(LANES)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while (name := self._take()) is not None:
                time.sleep(self._rng.uniform(*PAUSE_S))  # a random moment is what is wanted
                try:
                    hit = self._faults.by_name[name]()
                except Missed:
                    self._again(name)
                else:
                    with self._lock:
                        self.hits[name].append(hit)
        except BaseException as error:
            self.failure = self.failure or error
        finally:
            with self._lock:
                self._at_work -= 1
                if self._at_work == 0:
                    self.over.set()

    def _take(self) -> str | None:
        with self._lock:
            return self._plan.pop(0) if self._plan and self.failure is None else None

    def _again(self, name: str) -> None:
        with self._lock:
            self.misses[name] += 1
            if self.misses[name] > MOST_MISSES:
                raise AssertionError(f"the fault {name!r} missed {MOST_MISSES} times")
            self._plan.append(name)


def _settle(arena: Arena, storm: Storm, within_s: float) -> None:
    """Until all jobs have ended, and then until nothing is left of workers and no saga is open, for a minute at most."""
    began = time.monotonic()
    ids = [job.job_id for job in storm.submitted]

    def ended() -> bool:
        states = arena.states()
        return all(states.get(job_id, "lost") in (*TERMINAL, "lost") for job_id in ids)

    arena.keeper.wait_until_all_are_up()
    try:
        until(ended, within_s=within_s, what="the end of all jobs")
    except AssertionError as error:
        still = [job_id for job_id, state in arena.states().items() if state not in TERMINAL]
        told = "\n\n".join(arena.words(job_id) for job_id in still[:5])
        raise AssertionError(f"{error}\n{len(still)} jobs are open:\n{told}") from None
    storm.settled_s = time.monotonic() - began

    def nothing_left() -> bool:
        storm.left = arena.leftovers()
        return not storm.left

    deadline = time.monotonic() + GONE_WITHIN_S
    while not nothing_left() and time.monotonic() < deadline:
        time.sleep(0.5)
