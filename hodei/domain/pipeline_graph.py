"""A pipeline's jobs as a graph of nodes: the matrix expanded, the needs checked. Pure, and bounded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from hodei.domain.pipeline import When

MAX_NODES = 5000
"""Of one run, after the expansion."""
MAX_EDGES = 50_000
"""A matrix that needs a matrix has an edge for each pair: a job in between makes few of many."""
MAX_KEY_CHARACTERS = 200
"""Of a node's key, so that it may be a label's value."""

Combination = dict[str, str]


class BadGraph(Exception):
    """These jobs are no graph that can be run. The text is a sentence; ``field`` names the part at fault."""

    def __init__(self, sentence: str, *, field: str) -> None:
        super().__init__(sentence)
        self.field = field


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Every combination of the axes' values; without those that hold all of an ``exclude``, with those of ``include``."""

    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    include: tuple[Combination, ...] = ()
    exclude: tuple[Combination, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document that is stored; its axes stay in their order."""
        axes = [[name, list(values)] for name, values in self.axes.items()]
        return {"axes": axes, "include": list(self.include), "exclude": list(self.exclude)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Matrix:
        axes = {name: tuple(values) for name, values in document["axes"]}
        return cls(axes=axes, include=tuple(document["include"]), exclude=tuple(document["exclude"]))

    def names(self) -> set[str]:
        """All axes, also those that only an ``include`` has."""
        return set(self.axes).union(*self.include)

    def size(self) -> int:
        """How many combinations there are at most; known without making them."""
        return (prod(len(values) for values in self.axes.values()) if self.axes else 0) + len(self.include)

    def combinations(self) -> list[Combination]:
        """The combinations, in the order in which they are written, each once."""
        crossed = product(*self.axes.values()) if self.axes else ()
        found = [dict(zip(self.axes, values, strict=True)) for values in crossed]
        found = [one for one in found if not any(without.items() <= one.items() for without in self.exclude)]
        order = [*self.axes, *sorted(self.names() - set(self.axes))]
        for more in self.include:
            if more not in found:
                found.append({axis: more[axis] for axis in order if axis in more})
        return found


@dataclass(frozen=True, kw_only=True)
class GraphJob:
    """The part of a job that makes the graph."""

    key: str
    needs: tuple[str, ...] = ()
    when: When = When.SUCCESS
    matrix: Matrix | None = None


@dataclass(frozen=True, kw_only=True)
class Node:
    """One job of a run. ``number`` is its place: no node needs one with a higher number."""

    number: int
    key: str
    job_key: str
    when: When
    matrix: Combination = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The nodes in an order in which they could run, and who needs whom: (needed, by), as numbers."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]


def build(jobs: Iterable[GraphJob]) -> Graph:
    """The graph of these jobs. Raises BadGraph, with the first thing that is wrong."""
    listed = list(jobs)
    _check_keys(listed)
    _check_needs(listed)
    order = _order(listed)
    total = sum(1 if job.matrix is None else job.matrix.size() for job in listed)
    if total > MAX_NODES + sum(_excluded(job) for job in listed):
        raise BadGraph(
            f"These are {total} jobs with their matrices: at most {MAX_NODES} may be.", field="jobs"
        )
    nodes: list[Node] = []
    numbers: dict[str, list[int]] = {}
    edges: list[tuple[int, int]] = []
    for place in order:
        job = listed[place]
        mine = numbers[job.key] = []
        for combination in _combinations(job, place):
            key = node_key(job.key, combination)
            if len(key) > MAX_KEY_CHARACTERS:
                raise BadGraph(
                    f"{key[:60]}… is longer than the {MAX_KEY_CHARACTERS} characters that a key may have.",
                    field=f"jobs.{place}.matrix",
                )
            mine.append(len(nodes))
            nodes.append(Node(number=len(nodes), key=key, job_key=job.key, when=job.when, matrix=combination))
        edges += [(needed, by) for need in job.needs for needed in numbers[need] for by in mine]
        if len(nodes) > MAX_NODES:
            raise BadGraph(f"These are more than {MAX_NODES} jobs with their matrices.", field="jobs")
        if len(edges) > MAX_EDGES:
            raise BadGraph(
                f"With their matrices these jobs wait for each other in more than {MAX_EDGES} ways: put a job between.",
                field=f"jobs.{place}.needs",
            )
    return Graph(nodes=tuple(nodes), edges=tuple(edges))


def node_key(job_key: str, combination: Combination) -> str:
    """``test[os=a,py=3.11]``; without a matrix the job's own key."""
    if not combination:
        return job_key
    return f"{job_key}[{','.join(f'{axis}={value}' for axis, value in combination.items())}]"


def _excluded(job: GraphJob) -> int:
    """How many combinations ``exclude`` may at most take away; those are made and counted one by one."""
    return job.matrix.size() if job.matrix is not None and job.matrix.exclude else 0


def _combinations(job: GraphJob, place: int) -> list[Combination]:
    if job.matrix is None:
        return [{}]
    if job.matrix.size() > 4 * MAX_NODES:
        raise BadGraph(
            f"The matrix of {job.key} has {job.matrix.size()} combinations.", field=f"jobs.{place}.matrix"
        )
    found = job.matrix.combinations()
    if not found:
        raise BadGraph(f"The matrix of {job.key} has no combination.", field=f"jobs.{place}.matrix")
    return found


def _check_keys(jobs: list[GraphJob]) -> None:
    seen: set[str] = set()
    for place, job in enumerate(jobs):
        if job.key in seen:
            raise BadGraph(f"There are two jobs with the key {job.key}.", field=f"jobs.{place}.key")
        seen.add(job.key)


def _check_needs(jobs: list[GraphJob]) -> None:
    keys = [job.key for job in jobs]
    known = set(keys)
    for place, job in enumerate(jobs):
        for nth, need in enumerate(job.needs):
            where = f"jobs.{place}.needs.{nth}"
            if need not in known:
                near = difflib.get_close_matches(need, keys, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise BadGraph(f"{job.key} needs {need}, and there is no such job.{hint}", field=where)
            if need in job.needs[:nth]:
                raise BadGraph(f"{job.key} needs {need} twice.", field=where)
        if not job.needs and job.when is When.FAILURE:
            raise BadGraph(
                f"{job.key} runs when one of its needs failed, and has none: it would never run.",
                field=f"jobs.{place}.when",
            )


def _order(jobs: list[GraphJob]) -> list[int]:
    """The jobs' places, those that are needed first, else as they are written. Raises BadGraph for a cycle."""
    places = {job.key: place for place, job in enumerate(jobs)}
    open_needs = [len(job.needs) for job in jobs]
    dependents: list[list[int]] = [[] for _ in jobs]
    for place, job in enumerate(jobs):
        for need in job.needs:
            dependents[places[need]].append(place)
    ready = [place for place, left in enumerate(open_needs) if not left]
    for place in ready:  # it grows while it is walked
        for dependent in dependents[place]:
            open_needs[dependent] -= 1
            if not open_needs[dependent]:
                ready.append(dependent)
    if len(ready) < len(jobs):
        cycle = _cycle(jobs, places, {place for place, left in enumerate(open_needs) if left})
        names = " needs ".join([*cycle, cycle[0]]) if len(cycle) < 12 else f"{cycle[0]} needs … {cycle[-1]} …"
        raise BadGraph(
            f"The jobs wait for each other in a circle: {names}.", field=f"jobs.{places[cycle[0]]}.needs"
        )
    return ready


def _cycle(jobs: list[GraphJob], places: dict[str, int], stuck: set[int]) -> list[str]:
    """One circle among the jobs that cannot be ordered: each of them needs another of them."""
    place, path = min(stuck), dict[int, None]()
    while place not in path:
        path[place] = None
        place = next(places[need] for need in jobs[place].needs if places[need] in stuck)
    walked = list(path)
    circle = walked[walked.index(place) :]
    first = circle.index(min(circle))
    return [jobs[each].key for each in circle[first:] + circle[:first]]
