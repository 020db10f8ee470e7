"""The platform is away for a while, all of it, and jobs run meanwhile: nobody is declared lost, and nothing begins again."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from support.chaos_arena import Arena, Scale
from support.chaos_verdict import Facts, read_facts
from support.chaos_witness import LINES_PER_TICK, read_witness
from support.waiting import until

DOWN_SCALE = Scale(heartbeat=5, lost_after=10, give_up_after=90, cut_short=0, cut_kept=0, cut_past=0)
WAVE = 20
PROCESSES = ("beat", "controller", "serve")


@dataclass(frozen=True, kw_only=True)
class Downtime:
    """What was there when all had ended; ``ended_while_away`` so many jobs ended while nobody could hear of it."""

    facts: Facts
    job_ids: list[str]
    ended_while_away: int
    wrong_logs: list[str]
    left: list[str]

    @property
    def attempts(self) -> Counter[int]:
        return Counter(self.facts.jobs[job_id]["attempts"] for job_id in self.job_ids)

    @property
    def states(self) -> Counter[str]:
        return Counter(self.facts.jobs[job_id]["state"] for job_id in self.job_ids)


def run_downtime(arena: Arena, *, jobs: int, down_s: float, start_within_s: float) -> Downtime:
    """So many running jobs; then all processes are killed, half of the jobs end, and all are started again after ``down_s``."""
    early, late = arena.shared / "early", arena.shared / "late"
    ids: list[str] = []
    running = "SELECT count(*) FROM jobs WHERE state = 'RUNNING'"
    for number in range(jobs):
        stop = early if number % 2 else late
        job = arena.job(f"down-{number}", "process", seconds=86_400, pause=6, until_there_is=stop)
        ids.append(arena.submit(job, f"down-{number}"))
        if (
            len(ids) % WAVE == 0 or len(ids) == jobs
        ):  # all agents' starts at once would take longer than one after the other
            until(lambda: arena.value(running) == len(ids), within_s=start_within_s, what="running jobs")
    for which in arena.sets:
        for process in PROCESSES:
            arena.keeper.kill(which, process, rest=True)
    away_since = time.monotonic()
    early.touch()
    time.sleep(max(0.0, down_s - (time.monotonic() - away_since)))  # the fault itself
    ended = sum(
        life.ended
        for lives in read_witness(arena.witness).lives.values()
        for each in lives.values()
        for life in each
    )
    for which in arena.sets:
        for process in PROCESSES:
            arena.keeper.wake(which, process)
    arena.wait_until_well()
    away = "SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'"
    until(
        lambda: arena.value(away) >= jobs // 2, within_s=start_within_s, what="the ends that came meanwhile"
    )
    late.touch()
    until(lambda: arena.value(away) == jobs or _is_over(arena), within_s=start_within_s, what="all ends")
    return Downtime(
        facts=read_facts(arena),
        job_ids=ids,
        ended_while_away=ended,
        wrong_logs=_wrong_logs(arena, ids),
        left=_left(arena),
    )


def _is_over(arena: Arena) -> bool:
    return not arena.value(
        "SELECT count(*) FROM jobs WHERE state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING')"
    )


def _left(arena: Arena) -> list[str]:
    deadline = time.monotonic() + 60
    while (left := arena.leftovers()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def _wrong_logs(arena: Arena, ids: list[str]) -> list[str]:
    lives = read_witness(arena.witness).lives
    wrong = []
    for job_id in ids:
        ticks = sum(life.ticks for each in lives[job_id].values() for life in each)
        with arena.api() as client:
            lines = client.log_text(job_id).splitlines()
        whole = [f"line {number} of attempt 1" for number in range(1, ticks * LINES_PER_TICK + 1)]
        if lines != whole:
            wrong.append(f"{job_id}: {len(lines)} lines of {len(whole)}")
    return wrong
