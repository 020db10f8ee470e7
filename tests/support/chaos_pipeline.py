"""A pipeline of 200 jobs in the arena: fans, gathers, a failure and what follows from it; and what it must come to."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hodei.client.errors import ServerUnreachable
from support.chaos_arena import Arena
from support.chaos_faults import Faults, Hit, Missed
from support.chaos_jobs import Submitter
from support.chaos_verdict import Verdict
from support.chaos_witness import SCRIPT, read_witness
from support.waiting import until

WIDTHS = (60, 60, 70)
NODES = 200
LANES = 2
EACH = 2
"""Each fault hits so often, if the run goes on for that long; then it goes on in peace."""
PAUSE_S = (0.5, 3.0)
NOT_HERE = ("SIGSTOP",)
"""What takes as long as a lease has its place in the storm."""
HANDS_ON = 'echo "n=$N" >> "$HODEI_OUTPUT"; exit "$CODE"'


def definition(arena: Arena) -> dict[str, Any]:
    """first → fan → gather → fan → gather → fan → last; beside it a job that fails, its alarm, and what is skipped for it."""

    def job(key: str, *needs: str, code: int = 0, seconds: float = 0.5, **more: Any) -> dict[str, Any]:
        made = arena.job(key, "process", seconds=seconds, code=code)
        env = made["env"] | {"N": "1"} | more.pop("env", {})
        command = SCRIPT.replace('exit "$CODE"', HANDS_ON)
        assert command != SCRIPT
        return {
            "key": key,
            "needs": list(needs),
            "provider": "process",
            "command": command,
            "env": env,
            **more,
        }

    jobs = [job("gather0")]
    for n, width in enumerate(WIDTHS):
        matrix = {"i": [str(i) for i in range(width)]}
        jobs.append(job(f"fan{n}", f"gather{n}", matrix=matrix, env={"N": "${{ matrix.i }}"}))
        jobs.append(job(f"gather{n + 1}", f"fan{n}", env={"SEEN": f"${{{{ needs.fan{n}.outputs.n }}}}"}))
    jobs += [
        job("bad", "gather0", code=3),
        job("alarm", "bad", when="failure"),
        job("never", "bad"),
        job("neither", "never"),
        job("tidy", "bad", "never", "gather1", when="always"),
        job("calm", "gather1", when="failure"),
    ]
    return {"name": "storm", "jobs": jobs}


EXPECTED = {"bad": "FAILED", "never": "SKIPPED", "neither": "SKIPPED", "calm": "SKIPPED"}
"""All others succeed."""


@dataclass(kw_only=True)
class PipelineStorm:
    """What hit the run, and how long it took."""

    run_id: str
    hits: dict[str, list[Hit]] = field(default_factory=dict)
    misses: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0
    left: list[str] = field(default_factory=list)


def start(arena: Arena) -> str:
    """Make the pipeline and run it, as a patient program does."""

    def accepted(call: Callable[[Any], Any]) -> str:
        def attempt() -> str | None:
            try:
                with arena.api() as client:
                    return str(call(client).id)
            except ServerUnreachable:
                return None

        return until(attempt, within_s=60, what="the acceptance of the pipeline")

    document = definition(arena)
    made = accepted(lambda client: client.create_pipeline(document, idempotency_key="the-pipeline"))
    return accepted(lambda client: client.run_pipeline(made, idempotency_key="the-run"))


def run_pipeline_storm(arena: Arena, *, within_s: float) -> PipelineStorm:
    """Run it while faults hit, one after the other in each lane; wait for its end, and then until nothing is left."""
    faults = Faults(arena, Submitter(arena, ("process",), in_flight=0))
    by_name = {name: fault for name, fault in faults.by_name.items() if not name.startswith(NOT_HERE)}
    storm = PipelineStorm(run_id=start(arena), hits={name: [] for name in by_name})
    began, over, lock = time.monotonic(), threading.Event(), threading.Lock()
    plan = [name for name in by_name for _ in range(EACH)]
    arena.rng.shuffle(plan)
    trouble: list[BaseException] = []

    def take() -> str | None:
        with lock:
            return plan.pop() if plan else None

    def lane(rng: random.Random) -> None:
        try:
            while not over.wait(rng.uniform(*PAUSE_S)) and (name := take()) is not None:
                if "agent" in name and arena.target("process") is None:
                    again(name)
                    continue
                try:
                    hit = by_name[name]()
                except Missed:
                    again(name)
                else:
                    with lock:
                        storm.hits[name].append(hit)
        except BaseException as error:
            trouble.append(error)

    def again(name: str) -> None:
        with lock:
            storm.misses[name] += 1
            plan.insert(0, name)

    lanes = [
        threading.Thread(target=lane, args=(random.Random(arena.rng.random()),), daemon=True)
        for _ in range(LANES)
    ]
    for thread in lanes:
        thread.start()

    def ended() -> bool:
        return bool(
            arena.sql("SELECT 1 FROM hodei.pipeline_runs WHERE state <> 'RUNNING' AND id = %s", storm.run_id)
        )

    try:
        until(ended, within_s=within_s, what="the end of the run")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{_words(arena, storm.run_id)}") from None
    finally:
        over.set()
        for thread in lanes:
            thread.join(120)
    storm.took_s = time.monotonic() - began
    if trouble:
        raise trouble[0]
    arena.keeper.wait_until_all_are_up()
    deadline = time.monotonic() + 60.0
    while (found := arena.leftovers()) and time.monotonic() < deadline:
        time.sleep(0.5)
    storm.left = found
    return storm


def judge_pipeline(arena: Arena, storm: PipelineStorm) -> Verdict:
    """Whether the run came to what its rules say, each job ran once per attempt and in its turn, and nothing is left."""
    nodes = {
        row[0]: dict(zip(("state", "try", "job", "outputs", "reason"), row[1:], strict=True))
        for row in arena.sql(
            "SELECT key, state, nth_try, job_id::text, outputs, reason FROM hodei.pipeline_nodes WHERE run_id = %s",
            storm.run_id,
        )
    }
    witness = read_witness(arena.witness)
    verdict = Verdict()
    count = verdict.counts
    count["nodes that are not there"] = [] if len(nodes) == NODES else [f"{len(nodes)} of {NODES}"]
    count["nodes with an end that is not theirs"] = [
        f"{key}: {node}" for key, node in nodes.items() if node["state"] != EXPECTED.get(key, "SUCCEEDED")
    ]
    made = Counter(
        key for (key,) in arena.sql("SELECT pipeline_node FROM jobs WHERE pipeline_run_id = %s", storm.run_id)
    )
    count["nodes with more than one job"] = [key for key, jobs in made.items() if jobs > 1]
    count["skipped nodes that have a job"] = [key for key in made if EXPECTED.get(key) == "SKIPPED"]
    count["jobs that began before what they need had ended"] = _early(arena, storm.run_id)
    count["values that were not handed on"] = _not_handed_on(arena, storm.run_id)
    state = arena.value("SELECT state FROM hodei.pipeline_runs WHERE id = %s", storm.run_id)
    count["a run with an end that is not its own"] = [] if state == "FAILED" else [state]
    ends = arena.value(
        "SELECT count(*) FROM domain_events WHERE aggregate_id = %s AND event_type = 'PipelineRunEnded'",
        storm.run_id,
    )
    count["ends beyond one"] = [] if ends == 1 else [str(ends)]
    count["overlapping attempts"] = witness.overlaps
    count["side effects beyond one per attempt"] = witness.repeats
    count["left after 60 s"] = storm.left
    return verdict


def _early(arena: Arena, run_id: str) -> list[str]:
    rows = arena.sql(
        "SELECT b.key, n.key FROM hodei.pipeline_edges e"
        " JOIN hodei.pipeline_nodes n ON n.run_id = e.run_id AND n.number = e.needed JOIN jobs nj ON nj.id = n.job_id"
        " JOIN hodei.pipeline_nodes b ON b.run_id = e.run_id AND b.number = e.by JOIN jobs bj ON bj.id = b.job_id"
        " WHERE e.run_id = %s AND bj.created_at < nj.completed_at",
        run_id,
    )
    return [f"{by} before the end of {needed}" for by, needed in rows]


def _not_handed_on(arena: Arena, run_id: str) -> list[str]:
    wrong = []
    for n, width in enumerate(WIDTHS):
        seen = arena.value(
            "SELECT spec #>> '{env,SEEN}' FROM jobs WHERE pipeline_run_id = %s AND pipeline_node = %s",
            run_id,
            f"gather{n + 1}",
        )
        if json.loads(seen) != {f"fan{n}[i={i}]": str(i) for i in range(width)}:
            wrong.append(f"gather{n + 1} saw {seen}")
    return wrong


def _words(arena: Arena, run_id: str) -> str:
    """For a failure's message: where the run is, and the way of jobs that are open."""
    states = arena.sql(
        "SELECT state, count(*) FROM hodei.pipeline_nodes WHERE run_id = %s GROUP BY state", run_id
    )
    still = arena.sql(
        "SELECT id::text FROM jobs WHERE pipeline_run_id = %s AND state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING')"
        " ORDER BY queued_at LIMIT 3",
        run_id,
    )
    return "\n\n".join([str(states), *(arena.words(job_id) for (job_id,) in still)])


def print_pipeline_table(storm: PipelineStorm, verdict: Verdict, seed: int) -> None:
    lines = [
        f"seed {seed}; a pipeline of {NODES} nodes in {storm.took_s:.0f} s",
        "",
        "| what | how many |",
        "|---|---|",
        *(f"| {name} | {len(found)} |" for name, found in verdict.counts.items()),
        "",
        "| fault | hit | missed |",
        "|---|---|---|",
        *(f"| {name} | {len(hits)} | {storm.misses[name]} |" for name, hits in storm.hits.items()),
    ]
    print("\n" + "\n".join(lines) + "\n", flush=True)
