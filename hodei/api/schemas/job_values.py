"""The parts of a job that need more than a type: sizes, names, arguments, environments."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from hodei.api.schemas.common import Form
from hodei.domain.job import MAX_ARGUMENT_BYTES

MIN_MEMORY_BYTES = 6 * 1024**2
"""Docker makes no container with less."""
MAX_MEMORY_BYTES = 2**50
MIN_SECRET_CHARACTERS = 4
MAX_LABELS = 64

_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([kmgt]?)(?:i?b|i)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_ENV_NAME_SCHEMA = "^(?!HODEI_)[A-Za-z_][A-Za-z0-9_]*$"
_LABEL_KEY_SCHEMA = "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"
_NO_NUL = r"^[^\u0000]*$"
_RUNNABLE = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
_PRINTABLE = r"^[^\u0000-\u001f\u007f]*[^\s\u0000-\u001f\u007f][^\u0000-\u001f\u007f]*$"


def _memory(value: Any) -> Any:
    if isinstance(value, str):
        match = _MEMORY.fullmatch(value)
        if match is None:
            raise ValueError(
                "memory is not a size: give bytes, or a number with k, m or g such as 512m or 1Gi."
            )
        value = int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])
    if isinstance(value, int) and not isinstance(value, bool) and value < MIN_MEMORY_BYTES:
        raise ValueError("memory is below 6 MiB, with which no container starts: give more, such as 64m.")
    return value


def _arguments(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise ValueError(f"args cannot be split as a shell would: {str(error).lower()}.") from None
    return value


def _argument(value: str) -> str:
    _no_nul(value)
    if len(value.encode()) > MAX_ARGUMENT_BYTES:
        raise ValueError(f"is longer than the {MAX_ARGUMENT_BYTES} bytes that Linux takes as one argument")
    return value


def _command(value: str) -> str:
    if not value.strip():
        raise ValueError(
            "command is empty: give a shell line, or leave command out for a definition in a pipeline."
        )
    if len(value.encode()) > MAX_ARGUMENT_BYTES:
        raise ValueError(f"command is longer than {MAX_ARGUMENT_BYTES} bytes: send it as a script instead.")
    return _no_nul(value)


def _script(value: str) -> str:
    if not value.strip():
        raise ValueError("script is empty: give the text of a script.")
    return _no_nul(value)


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character, which no process can be given")
    return value


def _printable(value: str) -> str:
    if not value.strip() or any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("is blank or holds control characters")
    return value


def _image(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", value):
        raise ValueError("image is not an image's name such as python:3.12 or registry.example/team/tool:1.")
    return value


def _environment(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(
                f"{_shown(name)} is not a variable's name: letters, digits and _, not starting with a digit."
            )
        if name.startswith("HODEI_"):
            raise ValueError(
                f"{_shown(name)} is reserved: names that start with HODEI_ are set by the platform."
            )
        if "\0" in text:
            raise ValueError(
                f"The value of {_shown(name)} holds a NUL character, which no process can be given."
            )
        if len(name) + len(text.encode()) + 1 > MAX_ARGUMENT_BYTES:
            raise ValueError(
                f"The value of {_shown(name)} is longer than Linux takes; write it in a script instead."
            )
    return value


def _secrets(value: dict[str, str]) -> dict[str, str]:
    _environment(value)
    for name, text in value.items():
        if len(text) < MIN_SECRET_CHARACTERS:
            raise ValueError(
                f"The secret {_shown(name)} has fewer than 4 characters: masking it would hide other output."
            )
    return value


def _labels(value: dict[str, str]) -> dict[str, str]:
    if len(value) > MAX_LABELS:
        raise ValueError(f"labels holds more than {MAX_LABELS} entries.")
    for key, text in value.items():
        if not _LABEL_KEY.fullmatch(key):
            raise ValueError(
                f"{_shown(key)} is not a label's key: up to 63 letters, digits and . _ / - inside."
            )
        if len(text) > 256 or "\0" in text:
            raise ValueError(
                f"The value of the label {_shown(key)} is longer than 256 characters or holds a NUL."
            )
    return value


def _shown(name: str) -> str:
    return repr(name if len(name) <= 64 else f"{name[:63]}…")


def _map_schema(keys: str, value: dict[str, Any], example: dict[str, str], **more: Any) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": keys},
            "additionalProperties": value,
            "examples": [example],
        }
        | more
    )


ProviderWord = Annotated[
    str,
    Form(
        r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        "should be auto, docker, kubernetes, process, or another provider's name or id",
    ),
]
Command = Annotated[
    str,
    AfterValidator(_command),
    Field(json_schema_extra={"pattern": _RUNNABLE, "maxLength": MAX_ARGUMENT_BYTES}),
]
Script = Annotated[str, AfterValidator(_script), Field(json_schema_extra={"pattern": _RUNNABLE})]
Argument = Annotated[str, AfterValidator(_argument)]
Arguments = Annotated[
    list[Argument],
    BeforeValidator(_arguments),
    Field(max_length=10_000),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _NO_NUL},
                {
                    "type": "array",
                    "maxItems": 10_000,
                    "items": {"type": "string", "pattern": _NO_NUL, "maxLength": MAX_ARGUMENT_BYTES},
                },
            ],
            "examples": ["-la '/tmp/two words'", ["-la", "/tmp/two words"]],
        }
    ),
]
Memory = Annotated[
    int,
    BeforeValidator(_memory),
    Field(le=MAX_MEMORY_BYTES),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": MIN_MEMORY_BYTES, "maximum": MAX_MEMORY_BYTES},
                {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,6})? ?([kKmMgGtT]?(i?[bB]|i)?|[bB])$"},
            ],
            "examples": ["512m", "1Gi", 536_870_912],
        }
    ),
]
Name = Annotated[
    str,
    AfterValidator(_printable),
    Field(min_length=1, max_length=255, json_schema_extra={"pattern": _PRINTABLE}),
]
Image = Annotated[
    str,
    AfterValidator(_image),
    Field(min_length=1, max_length=512, json_schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9._/:@-]*$"}),
]
Environment = Annotated[
    dict[str, str],
    AfterValidator(_environment),
    _map_schema(_ENV_NAME_SCHEMA, {"type": "string", "pattern": _NO_NUL}, {"A": "1"}),
]
Secrets = Annotated[
    dict[str, str],
    AfterValidator(_secrets),
    _map_schema(
        _ENV_NAME_SCHEMA,
        {"type": "string", "pattern": _NO_NUL, "minLength": MIN_SECRET_CHARACTERS},
        {"TOKEN": "long enough"},
        writeOnly=True,
    ),
]
Labels = Annotated[
    dict[str, str],
    AfterValidator(_labels),
    _map_schema(
        _LABEL_KEY_SCHEMA,
        {"type": "string", "maxLength": 256, "pattern": _NO_NUL},
        {"team": "data"},
        maxProperties=MAX_LABELS,
    ),
]
