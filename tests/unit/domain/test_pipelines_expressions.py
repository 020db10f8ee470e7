"""Expressions: what may be named where, and what becomes of it."""

from __future__ import annotations

import json

import pytest

from hodei.domain.expressions import BadExpression, Known, Outcome, Scope, check, refuse, render
from hodei.domain.job import JobSpec
from hodei.domain.pipeline import NodeState
from hodei.domain.pipeline_definition import Definition, JobTemplate, Param
from hodei.domain.pipeline_definition import render as render_job
from hodei.domain.pipeline_graph import BadGraph, Matrix

KNOWN = Known(params=("version",), axes=("os",), needs=("build",))
SCOPE = Scope(
    params={"version": "1"},
    matrix={"os": "a"},
    run={"id": "r", "number": "7"},
    needs={
        "build": (Outcome(key="build", state=NodeState.SUCCEEDED, outputs={"tag": "v1"}),),
        "failed": (Outcome(key="failed", state=NodeState.FAILED, outputs={"x": "1"}),),
        "m": (
            Outcome(key="m[n=1]", state=NodeState.SUCCEEDED, outputs={"x": "ü"}),
            Outcome(key="m[n=2]", state=NodeState.SKIPPED),
        ),
    },
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no expression, $HOME {{x}}", "no expression, $HOME {{x}}"),
        ("v${{ params.version }}-${{matrix.os}}", "v1-a"),
        ("${{needs.build.outputs.tag}} ${{ needs.build.status }}", "v1 succeeded"),
        ("${{ run.number }}/${{ run.id }}", "7/r"),
        ("${{ needs.failed.outputs.x }}${{ needs.failed.outputs.nothing }}", "1"),
        ("${{ needs.m.outputs.x }}", '{"m[n=1]": "ü"}'),
        ("${{ needs.m.status }}", "skipped"),
    ],
)
def test_an_expression_becomes_its_value(text: str, value: str) -> None:
    assert render(text, SCOPE) == value


def test_a_value_with_an_expression_in_it_is_not_read_again() -> None:
    scope = Scope(params={"version": "${{ params.version }}"})

    assert render("${{ params.version }}", scope) == "${{ params.version }}"


def test_an_output_that_a_job_which_succeeded_did_not_write_is_said() -> None:
    with pytest.raises(BadExpression, match="build wrote no output other: it must write other=VALUE"):
        render("${{ needs.build.outputs.other }}", SCOPE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("${{ params.verson }}", "names no parameter. Did you mean version?"),
        ("${{ matrix.py }}", "names no axis of its matrix. There are: os."),
        ("${{ needs.test.outputs.x }}", "names no job among its needs. There are: build."),
        ("${{ run.name }}", "names no value of the run."),
        ("${{ github.sha }}", "is none of params.NAME"),
        ("${{ params.version", "is not closed"),
        ("${{ needs.build.outputs }}", "is none of params.NAME"),
        ("${{ params.version || 'x' }}", "is none of params.NAME"),
    ],
)
def test_what_names_nothing_is_refused_in_words(text: str, sentence: str) -> None:
    with pytest.raises(BadExpression) as caught:
        check(text, KNOWN)
    assert sentence in str(caught.value)


def template(**more: object) -> JobTemplate:
    spec = JobSpec(**({"command": "true"} | dict(more.pop("spec", {}))))  # type: ignore[arg-type, call-overload]
    return JobTemplate(key="j", spec=spec, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["command", "script"])
def test_what_a_shell_reads_takes_no_expression_and_the_sentence_says_what_to_do(where: str) -> None:
    text = "echo ${{ params.version }}"
    with pytest.raises(BadExpression, match="hand it on through env"):
        refuse(text)
    spec = {"command": None, "script": None} | {where: text}
    with pytest.raises(BadGraph) as caught:
        Definition(jobs=(template(spec=spec),), params={"version": Param()}).check()
    assert caught.value.field == f"jobs.0.{where}"


@pytest.mark.parametrize(
    ("job", "field"),
    [
        (template(name="${{ params.x }}"), "jobs.0.name"),
        (template(spec={"image": "a:${{ params.x }}"}), "jobs.0.image"),
        (template(spec={"args": ("a", "${{ params.x }}")}), "jobs.0.args.1"),
        (template(spec={"env": {"A": "${{ params.x }}"}}), "jobs.0.env.A"),
        (template(labels={"l": "${{ matrix.x }}"}, matrix=Matrix(axes={"y": ("1",)})), "jobs.0.labels.l"),
    ],
)
def test_every_text_that_takes_expressions_is_looked_at_when_the_pipeline_is_made(
    job: JobTemplate, field: str
) -> None:
    with pytest.raises(BadGraph) as caught:
        Definition(jobs=(job,)).check()
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("job", "params", "sentence"),
    [
        (
            template(spec={"image": "${{ params.x }}"}),
            {"x": "not an image"},
            "image has become 'not an image'",
        ),
        (
            template(spec={"env": {"A": "${{ params.x }}"}}),
            {"x": "x" * 131_071},
            "env.A has become longer than",
        ),
        (
            template(labels={"l": "${{ params.x }}"}),
            {"x": "x" * 257},
            "labels.l has become longer than the 256 bytes",
        ),
    ],
)
def test_a_value_that_makes_of_its_place_what_cannot_be_is_said(
    job: JobTemplate, params: dict[str, str], sentence: str
) -> None:
    with pytest.raises(BadExpression, match=sentence.replace(".", r"\.")):
        render_job(job, "j", Scope(params=params))


def test_a_definition_comes_back_from_its_document_as_it_was() -> None:
    job = template(
        matrix=Matrix(axes={"z": ("1", "2"), "a": ("x",)}, include=({"z": "3"},)),
        needs=("b",), labels={"l": "v"}, name="n", priority=3, spec={"args": ("a",), "env": {"A": "1"}, "retry_on": (1,)},
    )  # fmt: skip
    definition = Definition(
        jobs=(job, JobTemplate(key="b", spec=JobSpec(script="x"))), params={"p": Param(default="d")}
    )

    assert Definition.from_json(json.loads(json.dumps(definition.to_json(), sort_keys=True))) == definition
