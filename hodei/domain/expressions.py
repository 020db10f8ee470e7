"""``${{ params.x }}`` in a pipeline's texts: what may be named, and what it becomes when a job is made.

Never in a command or a script: a value that comes from elsewhere would become a part of the program. It is handed on through
``env`` or ``args``, which no shell reads.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hodei.domain.pipeline import NodeState

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_REFERENCE = re.compile(
    rf"(?:(params|matrix|run)\.({_NAME})|needs\.({_NAME})\.(?:(status)|outputs\.({_NAME})))"
)
OF_RUN = ("id", "number")
_WORST_FIRST = (NodeState.FAILED, NodeState.CANCELLED, NodeState.SKIPPED, NodeState.SUCCEEDED)


class BadExpression(Exception):
    """The text names what is not there. The exception's text is a sentence."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What may be named where a text stands."""

    params: Iterable[str] = ()
    axes: Iterable[str] = ()
    needs: Iterable[str] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one node of a need came to."""

    key: str
    state: NodeState
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The values of what may be named. ``needs``: job key → the outcomes of its nodes."""

    params: Mapping[str, str] = field(default_factory=dict)
    matrix: Mapping[str, str] = field(default_factory=dict)
    run: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, tuple[Outcome, ...]] = field(default_factory=dict)


def check(text: str, known: Known) -> None:
    """Raises BadExpression for what cannot be read, or names what is not there."""
    rest = EXPRESSION.sub("", text)
    if "${{" in rest:
        raise BadExpression("${{ is not closed: an expression ends with }}.")
    for inner in EXPRESSION.findall(text):
        kind, name, _ = _read(inner)
        what, names = {
            "params": ("parameter", known.params),
            "matrix": ("axis of its matrix", known.axes),
            "run": ("value of the run", OF_RUN),
            "needs": ("job among its needs", known.needs),
        }[kind]
        listed = sorted(names)
        if name not in listed:
            near = difflib.get_close_matches(name, listed, n=1)
            hint = (
                f" Did you mean {near[0]}?" if near else f" There are: {', '.join(listed)}." if listed else ""
            )
            raise BadExpression(f"${{{{ {inner.strip()} }}}} names no {what}.{hint}")


def refuse(text: str) -> None:
    """Raises BadExpression when there is an expression in a text that a shell reads."""
    found = EXPRESSION.search(text)
    if found:
        raise BadExpression(
            f"{' '.join(found[0].split())} cannot stand in what a shell reads, where its value would become a part of the "
            'program: hand it on through env, such as env: {VALUE: "…"}, and write "$VALUE".'
        )


def needs_in(text: str) -> set[str]:
    """The jobs that a text which was checked names."""
    return {name for kind, name, _ in map(_read, EXPRESSION.findall(text)) if kind == "needs"}


def render(text: str, scope: Scope) -> str:
    """The text with every expression's value. Raises BadExpression for an output that was not written."""
    return EXPRESSION.sub(lambda found: _value(found[1], scope), text)


def _read(inner: str) -> tuple[str, str, str | None]:
    """Kind, name and output (None: the status) of a reference."""
    found = _REFERENCE.fullmatch(inner.strip())
    if found is None:
        raise BadExpression(
            f"${{{{ {inner.strip()[:80]} }}}} is none of params.NAME, matrix.AXIS, needs.JOB.outputs.NAME, needs.JOB.status, "
            "run.id and run.number."
        )
    if found[1]:
        return found[1], found[2], None
    return "needs", found[3], found[5]


def _value(inner: str, scope: Scope) -> str:
    kind, name, output = _read(inner)
    if kind == "needs":
        return _of_needs(scope.needs.get(name, ()), name, output)
    values = {"params": scope.params, "matrix": scope.matrix, "run": scope.run}
    try:
        return values[kind][name]
    except KeyError:
        raise BadExpression(f"${{{{ {inner.strip()} }}}} has no value.") from None


def _of_needs(outcomes: tuple[Outcome, ...], name: str, output: str | None) -> str:
    """A matrix's outputs are a JSON object, from node to value; its status is the worst of its nodes'."""
    if output is None:
        states = {outcome.state for outcome in outcomes}
        return next((state.value.lower() for state in _WORST_FIRST if state in states), "")
    if [outcome.key for outcome in outcomes] != [name]:
        written = {one.key: one.outputs[output] for one in outcomes if output in one.outputs}
        return json.dumps(written, ensure_ascii=False)
    [outcome] = outcomes
    if output not in outcome.outputs and outcome.state is NodeState.SUCCEEDED:
        raise BadExpression(
            f"{name} wrote no output {output}: it must write {output}=VALUE into the file that $HODEI_OUTPUT names."
        )
    return outcome.outputs.get(output, "")
