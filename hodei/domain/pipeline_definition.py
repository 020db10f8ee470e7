"""A pipeline as it is stored: its parameters and its jobs, each a template from which nodes' jobs are made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hodei.domain import expressions
from hodei.domain.expressions import BadExpression, Known, Scope
from hodei.domain.job import MAX_ARGUMENT_BYTES, JobSpec
from hodei.domain.pipeline import When
from hodei.domain.pipeline_graph import BadGraph, Graph, GraphJob, Matrix, build

OWN_LABELS = ("hodei.io/pipeline", "hodei.io/run", "hodei.io/node")
"""The labels that every job of a run has."""
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}")


@dataclass(frozen=True, kw_only=True)
class Param:
    """What a run may be given. ``default`` None and not ``required``: it is empty when it is not given."""

    default: str | None = None
    required: bool = False
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class JobTemplate:
    """A job of a pipeline. Expressions may stand in its name, image, arguments, variables' and labels' values."""

    key: str
    spec: JobSpec
    needs: tuple[str, ...] = ()
    when: When = When.SUCCESS
    matrix: Matrix | None = None
    name: str | None = None
    priority: int = 0
    labels: dict[str, str] = field(default_factory=dict)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text that may hold expressions, and where it stands."""
        if self.name is not None:
            yield "name", self.name
        if self.spec.image is not None:
            yield "image", self.spec.image
        yield from ((f"args.{nth}", text) for nth, text in enumerate(self.spec.args or ()))
        yield from ((f"env.{name}", text) for name, text in self.spec.env.items())
        yield from ((f"labels.{name}", text) for name, text in self.labels.items())

    def reads(self) -> set[str]:
        """The jobs whose outcome its expressions name."""
        return {need for _, text in self.texts() for need in expressions.needs_in(text)}

    def to_json(self) -> dict[str, Any]:
        matrix = None if self.matrix is None else self.matrix.to_json()
        return asdict(self) | {"spec": self.spec.to_json(), "when": self.when.value, "matrix": matrix}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> JobTemplate:
        matrix = document["matrix"]
        return cls(
            **{name: document[name] for name in ("key", "name", "priority", "labels")},
            spec=JobSpec.from_json(document["spec"]),
            needs=tuple(document["needs"]),
            when=When(document["when"]),
            matrix=None if matrix is None else Matrix.from_json(matrix),
        )


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a pipeline runs. ``max_parallel``: so many of its jobs at a time; None: as many as there is room for."""

    jobs: tuple[JobTemplate, ...]
    params: dict[str, Param] = field(default_factory=dict)
    max_parallel: int | None = None

    def check(self) -> Graph:
        """The graph of its nodes. Raises BadGraph for the first thing that is wrong, expressions included."""
        graph = build(
            GraphJob(key=job.key, needs=job.needs, when=job.when, matrix=job.matrix) for job in self.jobs
        )
        for place, job in enumerate(self.jobs):
            self._check_texts(place, job)
        return graph

    def _check_texts(self, place: int, job: JobTemplate) -> None:
        axes = set() if job.matrix is None else job.matrix.names()
        known = Known(params=self.params, axes=axes, needs=job.needs)
        for where, text in (("command", job.spec.command), ("script", job.spec.script)):
            if text is not None:
                _or_bad_graph(f"jobs.{place}.{where}", expressions.refuse, text)
        for where, text in job.texts():
            _or_bad_graph(f"jobs.{place}.{where}", expressions.check, text, known)

    def to_json(self) -> dict[str, Any]:
        """The document stored in ``pipelines.definition``."""
        return {
            "jobs": [job.to_json() for job in self.jobs],
            "params": {name: asdict(param) for name, param in self.params.items()},
            "max_parallel": self.max_parallel,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Definition:
        return cls(
            jobs=tuple(JobTemplate.from_json(job) for job in document["jobs"]),
            params={name: Param(**param) for name, param in document["params"].items()},
            max_parallel=document["max_parallel"],
        )


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A node's job, with all values in their places."""

    name: str
    spec: JobSpec
    labels: dict[str, str]


def render(job: JobTemplate, key: str, scope: Scope) -> Rendered:
    """The node's job. Raises BadExpression when a value is not there, or makes of its place what cannot be."""

    def value(text: str, where: str, most: int) -> str:
        try:
            said = expressions.render(text, scope)
        except BadExpression as error:
            raise BadExpression(f"{where}: {error}") from None
        if len(said.encode()) > most or "\0" in said:
            raise BadExpression(f"{where} has become longer than the {most} bytes that it may have.")
        return said

    spec = job.spec
    image = None if spec.image is None else value(spec.image, "image", 512)
    if image is not None and not _IMAGE.fullmatch(image):
        raise BadExpression(f"image has become {image[:80]!r}, which is no image's name.")
    args = spec.args and tuple(
        value(text, f"args.{nth}", MAX_ARGUMENT_BYTES) for nth, text in enumerate(spec.args)
    )
    env = {
        name: value(text, f"env.{name}", MAX_ARGUMENT_BYTES - len(name) - 1)
        for name, text in spec.env.items()
    }
    name = key if job.name is None else value(job.name, "name", 1000)
    labels = {label: value(text, f"labels.{label}", 256) for label, text in job.labels.items()}
    return Rendered(name=_one_line(name), spec=replace(spec, image=image, args=args, env=env), labels=labels)


def _one_line(name: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in name).strip()[:255] or "job"


def _or_bad_graph(where: str, look: Any, *given: Any) -> None:
    try:
        look(*given)
    except BadExpression as error:
        raise BadGraph(str(error), field=where) from None
