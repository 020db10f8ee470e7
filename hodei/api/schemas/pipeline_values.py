"""The values of a pipeline's definition: keys, needs, matrices, and texts in which expressions may stand."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from hodei.api.schemas.common import Form, Text
from hodei.api.schemas.job_values import Arguments
from hodei.domain.pipeline_graph import MAX_NODES

MAX_VALUES = 1000
MAX_PARAM_CHARACTERS = 65_536
KEY_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$"
_VALUE = r"^[^\s,\[\]\u0000-\u001f\u007f]([^,\[\]\u0000-\u001f\u007f]{0,98}[^\s,\[\]\u0000-\u001f\u007f])?$"
_IMAGE = r"^([A-Za-z0-9]|\$\{\{[^{}]*\}\})([A-Za-z0-9._/:@-]|\$\{\{[^{}]*\}\})*$"
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
RESERVED = ("include", "exclude")


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _args(value: Any) -> Any:
    """An expression is one word, whatever is in it."""
    if isinstance(value, str):
        return _EXPRESSION.sub(lambda found: "${{" + re.sub(r"\s+", "", found[1]) + "}}", value)
    return value


def _image(value: str) -> str:
    if not re.fullmatch(_IMAGE, value):
        raise ValueError("image is not an image's name such as python:3.12, with ${{ … }} where it varies.")
    return value


def _matrix(value: Any) -> Any:
    """Numbers are written as they are read; what else is wrong is said."""
    if not isinstance(value, dict):
        raise ValueError("matrix is not an object: give it a list of values for each axis.")
    read: dict[str, Any] = {}
    for axis, listed in value.items():
        if not isinstance(axis, str) or not re.fullmatch(KEY_PATTERN, axis):
            raise ValueError(f"matrix: {str(axis)[:64]!r} is not an axis: letters, digits, _ and -.")
        if not isinstance(listed, list) or len(listed) > MAX_VALUES or not (listed or axis in RESERVED):
            raise ValueError(f"matrix: {axis} is not a list of 1 to {MAX_VALUES} values.")
        read[axis] = (
            [_combination(axis, one) for one in listed]
            if axis in RESERVED
            else [_text(axis, one) for one in listed]
        )
        if axis not in RESERVED and len(set(read[axis])) < len(read[axis]):
            raise ValueError(f"matrix: {axis} names a value twice.")
    if not read.keys() - {"exclude"}:
        raise ValueError("matrix has no axis: give it a list of values for at least one.")
    return read


def _combination(kind: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value or len(value) > 20:
        raise ValueError(f"matrix: {kind} is not a list of objects from axis to value.")
    for axis in value:
        if not isinstance(axis, str) or not re.fullmatch(KEY_PATTERN, axis) or axis in RESERVED:
            raise ValueError(f"matrix: {str(axis)[:64]!r} in {kind} is not an axis.")
    return {axis: _text(axis, one) for axis, one in value.items()}


def _text(axis: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**15:
        return str(value)
    if not isinstance(value, str) or not re.fullmatch(_VALUE, value):
        raise ValueError(
            f"matrix: a value of {axis} is not a text of up to 100 characters without commas, brackets and space around it."
        )
    return value


_VALUE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": _VALUE, "maxLength": 100},
        {"type": "integer", "minimum": -(10**15) + 1, "maximum": 10**15 - 1},
    ]
}
_COMBINATIONS: dict[str, Any] = {
    "type": "array",
    "maxItems": MAX_VALUES,
    "items": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 20,
        "patternProperties": {KEY_PATTERN: _VALUE_SCHEMA},
        "additionalProperties": False,
    },
}
Key = Annotated[
    str, Form(KEY_PATTERN, "should be 1 to 63 letters, digits, _ and -, and begin with a letter or _")
]
Needs = Annotated[
    list[Key],
    BeforeValidator(_one_or_more),
    Field(max_length=MAX_NODES),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": KEY_PATTERN},
                {"type": "array", "maxItems": MAX_NODES, "items": {"type": "string", "pattern": KEY_PATTERN}},
            ],
            "examples": [["build"]],
        }
    ),
]
MatrixValues = Annotated[
    dict[str, Any],
    BeforeValidator(_matrix),
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "properties": {"include": _COMBINATIONS, "exclude": _COMBINATIONS},
            "patternProperties": {
                r"^(?!(include|exclude)$)[A-Za-z_][A-Za-z0-9_-]{0,62}$": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_VALUES,
                    "items": _VALUE_SCHEMA,
                }
            },
            "additionalProperties": False,
            "examples": [{"os": ["bookworm", "trixie"], "python": ["3.11", "3.12"]}],
        }
    ),
]
ImageText = Annotated[
    str,
    AfterValidator(_image),
    Field(min_length=1, max_length=512, json_schema_extra={"pattern": _IMAGE}),
]
ArgumentTexts = Annotated[Arguments, BeforeValidator(_args)]
ParamText = Annotated[Text, Field(max_length=MAX_PARAM_CHARACTERS)]
