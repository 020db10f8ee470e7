"""A pipeline's graph: keys, needs, circles, matrices and bounds; and the rule by which a node starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei.domain.pipeline import (
    NODE_OPEN,
    NODE_TRANSITIONS,
    Needs,
    NodeState,
    RunState,
    When,
    end_of_run,
    verdict,
)
from hodei.domain.pipeline_graph import (
    MAX_EDGES,
    MAX_NODES,
    BadGraph,
    GraphJob,
    Matrix,
    build,
)


def job(key: str, *needs: str, when: When = When.SUCCESS, matrix: Matrix | None = None) -> GraphJob:
    return GraphJob(key=key, needs=needs, when=when, matrix=matrix)


def axes(**values: tuple[str, ...]) -> Matrix:
    return Matrix(axes=values)


def numbers(count: int) -> tuple[str, ...]:
    return tuple(str(n) for n in range(count))


def wrong(*jobs: GraphJob) -> tuple[str, str]:
    with pytest.raises(BadGraph) as caught:
        build(jobs)
    return str(caught.value), caught.value.field


def test_what_is_needed_comes_first_and_a_matrix_is_a_node_for_each_combination() -> None:
    graph = build(
        [job("ship", "test"), job("test", "build", matrix=axes(os=("a", "b"), py=("1", "2"))), job("build")]
    )

    assert [node.key for node in graph.nodes] == [
        "build", "test[os=a,py=1]", "test[os=a,py=2]", "test[os=b,py=1]", "test[os=b,py=2]", "ship",
    ]  # fmt: skip
    assert graph.edges == ((0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (2, 5), (3, 5), (4, 5))
    assert graph.nodes[2].matrix == {"os": "a", "py": "2"}


def test_a_matrix_leaves_out_and_adds_combinations_and_keeps_its_axes_in_order() -> None:
    matrix = Matrix(
        axes={"os": ("a", "b"), "arch": ("x", "y")},
        exclude=({"os": "b"}, {"os": "a", "arch": "y"}),
        include=({"arch": "z", "os": "c", "more": "1"}, {"os": "a", "arch": "x"}),
    )
    [*nodes] = build([job("t", matrix=Matrix.from_json(matrix.to_json()))]).nodes

    assert [node.key for node in nodes] == ["t[os=a,arch=x]", "t[os=c,arch=z,more=1]"]


def test_what_is_no_graph_is_refused_in_words_with_its_place() -> None:
    assert wrong(job("a"), job("b", "aa")) == (
        "b needs aa, and there is no such job. Did you mean a?",
        "jobs.1.needs.0",
    )
    assert wrong(job("a"), job("b"), job("a")) == ("There are two jobs with the key a.", "jobs.2.key")
    assert wrong(job("a"), job("b", "a", "a")) == ("b needs a twice.", "jobs.1.needs.1")
    assert wrong(job("a"), job("c", "b", "a"), job("b", "c")) == (
        "The jobs wait for each other in a circle: c needs b needs c.", "jobs.1.needs",
    )  # fmt: skip
    assert wrong(job("a", "a"))[0] == "The jobs wait for each other in a circle: a needs a."
    message, field = wrong(job("a", when=When.FAILURE))
    assert "it would never run" in message and field == "jobs.0.when"
    nothing = Matrix(axes={"os": ("a",)}, exclude=({"os": "a"},))
    assert wrong(job("a", matrix=nothing)) == ("The matrix of a has no combination.", "jobs.0.matrix")


def test_a_graph_has_its_bounds_and_what_is_beyond_them_is_not_even_made() -> None:
    assert len(build([job("a", matrix=axes(n=numbers(1000), m=numbers(5)))]).nodes) == MAX_NODES
    message, field = wrong(job("a", matrix=axes(n=numbers(1000), m=numbers(6))))
    assert str(MAX_NODES) in message and field == "jobs"
    huge = Matrix(axes={f"a{n}": numbers(1000) for n in range(20)}, exclude=({"a0": "1"},))
    assert "combinations" in wrong(job("a", matrix=huge))[0]
    wide = axes(n=numbers(300))
    message, field = wrong(job("a", matrix=wide), job("b", "a", matrix=wide))
    assert str(MAX_EDGES) in message and "put a job between" in message and field == "jobs.1.needs"
    assert (
        wrong(job("k" * 60, matrix=axes(**{f"axis{n}": ("v" * 100,) for n in range(3)})))[1]
        == "jobs.0.matrix"
    )


def test_a_thousand_jobs_in_a_row_are_a_graph() -> None:
    graph = build([job("j0"), *(job(f"j{n}", f"j{n - 1}") for n in range(1, 1000))])

    assert len(graph.edges) == 999
    assert all(needed < by for needed, by in graph.edges)


@given(st.lists(st.lists(st.integers(0, 8), max_size=4, unique=True), min_size=1, max_size=9))
def test_an_order_is_found_exactly_when_there_is_no_circle(needs: list[list[int]]) -> None:
    known = [[need for need in each if need < len(needs)] for each in needs]

    def reaches_itself(start: int) -> bool:
        seen, waiting = set(), list(known[start])
        while waiting:
            place = waiting.pop()
            if place == start:
                return True
            if place not in seen:
                seen.add(place)
                waiting += known[place]
        return False

    circular = any(reaches_itself(place) for place in range(len(known)))
    jobs = [job(f"j{n}", *(f"j{need}" for need in each)) for n, each in enumerate(known)]
    try:
        graph = build(jobs)
    except BadGraph as error:
        assert circular and "circle" in str(error)
    else:
        assert not circular and all(needed < by for needed, by in graph.edges)


@given(
    when=st.sampled_from(When),
    ends=st.lists(
        st.sampled_from([NodeState.SUCCEEDED, NodeState.FAILED, NodeState.SKIPPED, NodeState.CANCELLED, None])
    ),
)
def test_the_verdict_is_what_the_words_say_and_once_said_it_stays(
    when: When, ends: list[NodeState | None]
) -> None:
    def said(seen: list[NodeState | None]) -> NodeState:
        needs = Needs(
            open=seen.count(None),
            failed=seen.count(NodeState.FAILED),
            unsuccessful=sum(end not in (None, NodeState.SUCCEEDED) for end in seen),
        )
        return verdict(when, needs)

    now = said(ends)
    if None not in ends:
        holds = {
            When.SUCCESS: all(end is NodeState.SUCCEEDED for end in ends),
            When.FAILURE: NodeState.FAILED in ends,
            When.ALWAYS: True,
        }[when]
        assert now is (NodeState.READY if holds else NodeState.SKIPPED)
    elif now is not NodeState.WAITING:
        later = [
            {
                said([one if end is None else end for end in ends])
                for one in (NodeState.SUCCEEDED, NodeState.FAILED)
            }
        ]
        assert later == [{now}]


def test_a_run_has_failed_when_anything_did_and_was_cancelled_only_when_that_took_something() -> None:
    assert end_of_run(cancel_requested=False, failed=0, cancelled=0) is RunState.SUCCEEDED
    assert end_of_run(cancel_requested=False, failed=1, cancelled=0) is RunState.FAILED
    assert end_of_run(cancel_requested=False, failed=0, cancelled=1) is RunState.FAILED
    assert end_of_run(cancel_requested=True, failed=1, cancelled=1) is RunState.CANCELLED
    assert end_of_run(cancel_requested=True, failed=0, cancelled=0) is RunState.SUCCEEDED
    assert end_of_run(cancel_requested=True, failed=1, cancelled=0) is RunState.FAILED


def test_every_open_state_can_be_left_and_no_success_is_done_again() -> None:
    assert all(NODE_TRANSITIONS[state] for state in NODE_OPEN)
    assert NODE_TRANSITIONS[NodeState.SUCCEEDED] == frozenset()
