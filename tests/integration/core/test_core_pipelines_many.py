"""Runs of many nodes, of any shape, advanced by several processes that are killed in the middle."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from support.core import Core
from support.core_pipelines import advance_without_end, end_node, job, nodes, run, state_of, states, tick
from support.waiting import until

from hodei.domain.pipeline import When
from hodei.domain.pipeline_graph import GraphJob

ENDS = ("SUCCEEDED", "FAILED", "CANCELLED")


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[GraphJob, str]]:
    """Jobs that need some of those before them, each with what its job would come to."""
    listed: list[tuple[GraphJob, str]] = []
    for n in range(draw(st.integers(1, 9))):
        needs = draw(st.lists(st.sampled_from([f"j{m}" for m in range(n)]), unique=True)) if n else []
        when = draw(st.sampled_from(list(When) if needs else [When.SUCCESS, When.ALWAYS]))
        end = draw(st.sampled_from(("SUCCEEDED", *ENDS)))
        listed.append((GraphJob(key=f"j{n}", needs=tuple(needs), when=when), end))
    return listed


def oracle(graph: list[tuple[GraphJob, str]]) -> dict[str, str]:
    """What each node comes to, read off the rules one after the other."""
    ends: dict[str, str] = {}
    for node, end in graph:
        needed = [ends[need] for need in node.needs]
        runs = {
            When.SUCCESS: all(state == "SUCCEEDED" for state in needed),
            When.FAILURE: "FAILED" in needed,
            When.ALWAYS: True,
        }[node.when]
        ends[node.key] = end if runs else "SKIPPED"
    return ends


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
)
@given(graph=graphs(), draw=st.randoms(use_true_random=False))
def test_a_run_of_any_shape_comes_to_what_its_rules_say_in_whatever_order_its_jobs_end(
    core: Core, graph: list[tuple[GraphJob, str]], draw: random.Random
) -> None:
    # given
    core.sql("DELETE FROM hodei.pipelines; DELETE FROM provider_configs")
    core.provider("a")
    run_id = run(core, *(job(node.key, *node.needs, when=node.when.value) for node, _ in graph))
    ends = {node.key: end for node, end in graph}
    tick(core)

    # when
    while going := [key for key, state in states(core, run_id).items() if state == "SUBMITTED"]:
        for key in draw.sample(going, draw.randint(1, len(going))):
            end_node(core, run_id, key, ends[key])
        tick(core)

    # then
    expected = oracle(graph)
    bad = {"FAILED", "CANCELLED"} & set(expected.values())
    assert states(core, run_id) == expected
    assert state_of(core, run_id) == ("FAILED" if bad else "SUCCEEDED")


class Statements:
    """Counts what is sent to Postgres."""

    def __init__(self, core: Core) -> None:
        self.count = 0
        for engine in (core.database.engine, core.database._quick):
            event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, *_: Any) -> None:
        self.count += 1


def fan(width: int) -> Iterator[Any]:
    yield job("first")
    yield job(
        "each",
        "first",
        matrix={"n": tuple(str(n) for n in range(width))},
        env={"X": "${{ needs.first.outputs.x }}"},
    )
    yield job("last", "each", env={"ALL": "${{ needs.each.outputs.n }}"})


def test_a_thousand_nodes_of_a_fan_are_advanced_in_a_few_statements_each_time(core: Core) -> None:
    # given
    width = 998
    core.provider("a")
    run_id = run(core, *fan(width))
    tick(core)
    end_node(core, run_id, "first", outputs={"x": "y"})

    # when all of them are made
    statements = Statements(core)
    tick(core)
    made = statements.count
    assert Counter(states(core, run_id).values()) == {"SUCCEEDED": 1, "SUBMITTED": width, "WAITING": 1}

    # when one of them has ended
    end_node(core, run_id, "each[n=0]", outputs={"n": "0"})
    before = statements.count
    tick(core)
    one = statements.count - before

    # when all the others have, at once
    core.sql(
        "UPDATE jobs SET state = 'SUCCEEDED', completed_at = clock_timestamp(),"
        ' result = \'{"outputs": {"n": "1"}}\' WHERE state = \'PENDING\''
    )
    before = statements.count
    tick(core)
    others = statements.count - before

    # then the cost is one of turns, not of nodes
    assert made <= 100 and one <= 25 and others <= 50
    assert states(core, run_id)["last"] == "SUBMITTED"
    end_node(core, run_id, "last")
    tick(core)
    assert state_of(core, run_id) == "SUCCEEDED"


def test_a_long_chain_that_fails_at_its_first_is_skipped_to_its_end(core: Core) -> None:
    core.provider("a")
    length = 300
    run_id = run(core, job("j0"), *(job(f"j{n}", f"j{n - 1}") for n in range(1, length)))
    tick(core)

    end_node(core, run_id, "j0", "FAILED")
    tick(core)

    assert Counter(states(core, run_id).values()) == {"FAILED": 1, "SKIPPED": length - 1}
    assert state_of(core, run_id) == "FAILED"


def test_three_that_advance_killed_at_random_make_each_job_once(
    core: Core, database_url: str, tmp_path: Path
) -> None:
    # given runs of several layers, and three processes that advance them
    core.provider("a")
    layers, width, kills = 6, 8, 8
    graph = [job(f"l0n{n}") for n in range(width)]
    for layer in range(1, layers):
        above = [f"l{layer - 1}n{n}" for n in range(width)]
        graph += [job(f"l{layer}n{n}", *above[: n + 1]) for n in range(width)]
    runs = [run(core, *graph, name=f"p{n}") for n in range(3)]
    spawn, draw = multiprocessing.get_context("spawn"), random.Random(20261128)

    def start() -> multiprocessing.process.BaseProcess:
        process = spawn.Process(target=advance_without_end, args=(database_url, tmp_path), daemon=True)
        process.start()
        return process

    processes = [start() for _ in range(3)]

    # when jobs end, and one of the three is killed again and again
    killed = 0

    def all_ended() -> bool:
        nonlocal killed
        core.sql(
            "UPDATE jobs SET state = 'SUCCEEDED', completed_at = clock_timestamp() WHERE id IN"
            " (SELECT id FROM jobs WHERE state = 'PENDING' ORDER BY random() LIMIT 7)"
        )
        if killed < kills and draw.random() < 0.5:
            killed += 1
            which = draw.randrange(3)
            processes[which].kill()
            processes[which].join(10)
            processes[which] = start()
        return all(state_of(core, run_id) == "SUCCEEDED" for run_id in runs)

    until(all_ended, within_s=120, what="the end of all runs")
    for process in processes:
        process.kill()
        process.join(10)

    # then every node has one job, and ended once
    made = core.sql("SELECT pipeline_run_id, pipeline_node FROM jobs")
    assert max(Counter((row.pipeline_run_id, row.pipeline_node) for row in made).values()) == 1
    assert len(made) == len(runs) * layers * width
    for run_id in runs:
        assert _order_holds(core, run_id)
        ends = core.sql(
            "SELECT 1 FROM domain_events WHERE aggregate_id = :id AND event_type = 'PipelineRunEnded'",
            id=run_id,
        )
        assert len(ends) == 1


def _order_holds(core: Core, run_id: UUID) -> bool:
    """No job was made before all jobs that its node needs had ended."""
    early = core.sql(
        "SELECT 1 FROM hodei.pipeline_edges e"
        " JOIN hodei.pipeline_nodes n ON n.run_id = e.run_id AND n.number = e.needed JOIN jobs nj ON nj.id = n.job_id"
        " JOIN hodei.pipeline_nodes b ON b.run_id = e.run_id AND b.number = e.by JOIN jobs bj ON bj.id = b.job_id"
        " WHERE e.run_id = :id AND bj.created_at < nj.completed_at",
        id=run_id,
    )
    return not early and len(nodes(core, run_id)) > 0
