"""What must be zero after the storm, counted from outside: by the jobs' own witness, the logs, the engine and the tables."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hodei_agent.client import BACKOFF_LAST_S

from hodei.domain.ids import worker_id
from hodei.domain.job import INFRASTRUCTURE_RETRIES
from support.chaos_arena import Arena
from support.chaos_jobs import Submitted
from support.chaos_storm import TERMINAL, Storm
from support.chaos_witness import LINES_PER_TICK, Life, Witness, read_witness

_LINE = re.compile(r"^line (\d+) of attempt (\d+)$", re.MULTILINE)
SHOWN = 8


@dataclass(kw_only=True)
class Verdict:
    """Each count with what it counted, so that a failure can be understood."""

    counts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def wrong(self) -> dict[str, list[str]]:
        return {name: found for name, found in self.counts.items() if found}

    def words(self) -> str:
        """For the message of a failure."""
        lines = []
        for name, found in self.wrong.items():
            lines.append(f"{name}: {len(found)}")
            lines += [f"    {each}" for each in found[:SHOWN]]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An execution as the tables have it."""

    job_id: str
    attempt: int
    state: str
    reported: bool
    log_complete: bool
    worker_id: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """``at``: seconds of the database's epoch."""

    kind: str
    payload: dict[str, Any]
    at: float


@dataclass(kw_only=True)
class Facts:
    """All that is looked at, read once when all is over."""

    jobs: dict[str, dict[str, Any]]
    attempts: dict[str, list[Attempt]]
    events: dict[str, list[Event]]
    workers: dict[str, tuple[str, float, float]]
    witness: Witness


def judge(arena: Arena, storm: Storm) -> Verdict:
    """Count everything that the table of the storm names."""
    facts = read_facts(arena)
    ours = [job for job in storm.submitted if job.job_id in facts.jobs]
    verdict = Verdict()
    count = verdict.counts
    count["lost jobs"] = [job.key for job in storm.submitted if _is_lost(facts, job)]
    count["jobs made twice for one key"] = _made_twice(facts, storm.submitted)
    count["jobs with two ends"] = [job.job_id for job in ours if _ends(facts, job.job_id) != 1]
    count["jobs with an end that is not theirs"] = [
        f"{job.job_id} ({job.kind.name}): {facts.jobs[job.job_id]}"
        for job in ours
        if not _may_end_so(facts, job)
    ]
    count["overlapping attempts"] = facts.witness.overlaps
    count["attempts beyond those that the policy allows"] = _too_many(arena, facts, ours)
    count["side effects beyond one per attempt"] = facts.witness.repeats + _unknown_lives(facts)
    count["ended well without having run to the end"] = [
        f"{job.job_id}: {facts.jobs[job.job_id]}" for job in ours if _claims_too_much(facts, job)
    ]
    sagas = [each for each in storm.left if each.startswith("saga ")]
    count["containers, processes and workers left after 60 s"] = [
        each for each in storm.left if each not in sagas
    ]
    count["incomplete logs without their mark"] = _wrong_logs(arena, facts, ours)
    count["sagas stuck"] = sagas
    return verdict


def read_facts(arena: Arena) -> Facts:
    jobs = {
        row[0]: dict(
            zip(
                ("name", "state", "attempts", "infra", "user_left", "max", "code", "error"),
                row[1:],
                strict=True,
            )
        )
        for row in arena.sql(
            "SELECT id::text, name, state, attempts, infra_retries, user_retries, max_attempts, error_code, error_message "
            "FROM jobs"
        )
    }
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for row in arena.sql(
        "SELECT job_id::text, attempt, state, reported_at IS NOT NULL, log_complete, worker_id::text "
        "FROM hodei.executions ORDER BY attempt"
    ):
        names = ("job_id", "attempt", "state", "reported", "log_complete", "worker_id")
        attempts[row[0]].append(Attempt(**dict(zip(names, row, strict=True))))
    events: dict[str, list[Event]] = defaultdict(list)
    for job_id, kind, payload, at in arena.sql(
        "SELECT aggregate_id::text, event_type, payload, extract(epoch FROM occurred_at) FROM domain_events "
        "WHERE aggregate_type = 'job' ORDER BY occurred_at"
    ):
        events[job_id].append(Event(kind=kind, payload=payload, at=float(at)))
    workers = {
        row[0]: (row[1], float(row[2]), float(row[3]))
        for row in arena.sql(
            "SELECT id::text, provider_type, extract(epoch FROM created_at), "
            "extract(epoch FROM COALESCE(terminated_at, clock_timestamp())) FROM workers"
        )
    }
    return Facts(
        jobs=jobs, attempts=attempts, events=events, workers=workers, witness=read_witness(arena.witness)
    )


def _is_lost(facts: Facts, job: Submitted) -> bool:
    row = facts.jobs.get(job.job_id)
    return row is None or row["state"] not in TERMINAL


def _made_twice(facts: Facts, submitted: Sequence[Submitted]) -> list[str]:
    """Jobs are named after their keys: a key that was sent again must not have made another."""
    names = Counter(row["name"] for row in facts.jobs.values())
    return [f"{name}: {count} jobs" for name, count in names.items() if count > 1] + [
        f"{name}: never submitted" for name in names.keys() - {job.key for job in submitted}
    ]


def _ends(facts: Facts, job_id: str) -> int:
    return sum(
        event.kind == "JobStatusChanged" and event.payload.get("new_state") in TERMINAL
        for event in facts.events[job_id]
    )


def _may_end_so(facts: Facts, job: Submitted) -> bool:
    """As its kind says; or FAILED for a cause of the infrastructure once that budget is used up."""
    row = facts.jobs[job.job_id]
    if row["state"] in job.kind.ends:
        return row["state"] != "FAILED" or row["code"] == "ERR_1007" or _used_up(row)
    return row["state"] == "FAILED" and _used_up(row)


def _used_up(row: dict[str, Any]) -> bool:
    return bool(row["infra"] >= INFRASTRUCTURE_RETRIES and row["code"] not in (None, "ERR_1007", "ERR_1005"))


def _too_many(arena: Arena, facts: Facts, jobs: Sequence[Submitted]) -> list[str]:
    """More than the budgets allow, and those that no fault explains: only what hits a worker may cost an attempt."""
    found = []
    for job in jobs:
        row = facts.jobs[job.job_id]
        allowed = 1 + INFRASTRUCTURE_RETRIES + job.kind.user_retries
        if row["attempts"] > allowed or row["infra"] > INFRASTRUCTURE_RETRIES:
            found.append(f"{job.job_id}: {row}")
        retries = [event for event in facts.events[job.job_id] if event.kind == "JobRetried"]
        for nth, event in enumerate(retries):
            if event.payload["paid_by"] == "infrastructure" and not _explained(arena, facts, job, nth, event):
                found.append(
                    f"{job.job_id} ({job.provider}) after attempt {event.payload['attempt']}: {event.payload}"
                )
    return found


def _explained(arena: Arena, facts: Facts, job: Submitted, nth: int, event: Event) -> bool:
    """Whether a fault hit the worker of this try: its own, or the engine that it was on or was to be made on."""
    attempt = event.payload["attempt"]
    made = {str(worker_id(UUID(job.job_id), number, nth)) for number in (attempt, attempt + 1)}
    made |= {each.worker_id for each in facts.attempts[job.job_id] if each.attempt == attempt}
    if made & arena.disturbed.keys() or _door_was_away(arena, event):
        return True
    if job.provider != "docker":
        return False
    lives = [facts.workers[each][1:] for each in made & facts.workers.keys()]
    return any(
        created <= ended and terminated >= began
        for began, ended in arena.engine_outages
        for created, terminated in lives
    )


def _long_outages(arena: Arena) -> list[tuple[float, float]]:
    """When a worker-manager needed so long to start again that its workers, who know no other, were silent past give-up."""
    bearable = arena.scale.give_up_after - arena.scale.heartbeat - BACKOFF_LAST_S
    return [(began, ended) for began, ended in arena.door_outages if ended - began > bearable]


def _door_was_away(arena: Arena, event: Event) -> bool:
    silent = event.payload["error_code"] == "ERR_2006"
    return silent and any(
        began <= event.at <= ended + arena.scale.give_up_after for began, ended in _long_outages(arena)
    )


def _unknown_lives(facts: Facts) -> list[str]:
    """Something ran of which the tables know nothing."""
    known = {(each.job_id, each.attempt) for attempts in facts.attempts.values() for each in attempts}
    return [
        f"job {job_id} attempt {attempt} is in no table"
        for job_id, attempts in facts.witness.lives.items()
        for attempt in attempts
        if (job_id, attempt) not in known
    ]


def _claims_too_much(facts: Facts, job: Submitted) -> bool:
    row = facts.jobs[job.job_id]
    life = facts.witness.of(job.job_id, row["attempts"])
    return row["state"] == "SUCCEEDED" and (life is None or not life.ended)


def _wrong_logs(arena: Arena, facts: Facts, jobs: Sequence[Submitted]) -> list[str]:
    """Each attempt's lines once and in order, without a gap; all of them, unless the attempt's log says that it is not whole."""
    wanted = [each for job in jobs for each in facts.attempts[job.job_id]]

    def look(each: Attempt) -> str | None:
        with arena.api() as client:
            text = client.log_text(each.job_id, attempt=each.attempt)
        return _wrong_log(each, facts.witness.of(each.job_id, each.attempt), text)

    with ThreadPoolExecutor(max_workers=4) as pool:
        return [said for said in pool.map(look, wanted) if said]


def _wrong_log(each: Attempt, life: Life | None, text: str) -> str | None:
    where = f"{each.job_id} attempt {each.attempt} ({each.state})"
    found = _LINE.findall(text)
    lines = [int(number) for number, _ in found]
    if lines != list(range(1, len(lines) + 1)) or {int(attempt) for _, attempt in found} - {each.attempt}:
        return f"{where}: lines twice, missing or out of order: {lines[:5]} … {lines[-5:]}"
    ticks = life.ticks if life else 0
    least = ticks * LINES_PER_TICK if life and life.ended else max(0, ticks - 1) * LINES_PER_TICK
    if each.log_complete and len(lines) < least:
        return f"{where}: said to be whole, has {len(lines)} lines of {least} at least"
    if life and life.ended and each.reported and not each.log_complete:
        return f"{where}: reported, and its log is not whole"
    return None


def print_table(arena: Arena, storm: Storm, verdict: Verdict, seed: int) -> str:
    """The table, as Markdown."""
    facts = read_facts(arena)
    states = Counter(facts.jobs[job.job_id]["state"] for job in storm.submitted if job.job_id in facts.jobs)
    providers = Counter(job.provider for job in storm.submitted)
    lines = [
        f"seed {seed}; {len(storm.submitted)} jobs ({_listed(providers)}) in {storm.took_s:.0f} s, all ended "
        f"{storm.settled_s:.0f} s later: {_listed(states)}; {facts.witness.starts()} starts; cancels: {_listed(storm.cancels)}",
        "",
        "| what | how many |",
        "|---|---|",
        *(f"| {name} | {len(found)} |" for name, found in verdict.counts.items()),
        "",
        "| fault | hit | of these in the middle of a leased step | missed |",
        "|---|---|---|---|",
        *(
            f"| {name} | {len(hits)} | {sum(hit.in_step for hit in hits)} | {storm.misses[name]} |"
            for name, hits in storm.hits.items()
        ),
    ]
    ended = [
        f"{each.name} (code {each.code}, after {each.lived_s:.0f} s)" for each in arena.keeper.self_ended
    ]
    lines += [
        "",
        f"worker-managers that were away past give-up (a starved machine): {len(_long_outages(arena))}",
    ]
    lines += [f"processes that ended by themselves: {', '.join(ended) or 'none'}"]
    text = "\n".join(lines)
    print(f"\n{text}\n", flush=True)
    return text


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none"
