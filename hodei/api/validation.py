"""Requests into models, and refusals into a sentence with the field at fault; never the value."""

from __future__ import annotations

import difflib
import json
import re
from typing import Any, TypeVar
from uuid import UUID

from flask import request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hodei.api.problems import MalformedBody
from hodei.api.serialise import JSON_TYPE
from hodei.errors import HodeiError, InvalidInput, NotFound, UnsupportedMediaType

_NUMBERS = (
    (int, re.compile(r"-?[0-9]{1,19}"), "a whole number"),
    (float, re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?"), "a number of seconds"),
)
_MAYBE_WHOLE = re.compile(rb"[0-9](\.0|[eE])")
_EXACT_BELOW = 2**53

Model = TypeVar("Model", bound=BaseModel)


def body_as(model: type[Model]) -> Model:
    """The JSON body. Raises UnsupportedMediaType, MalformedBody (400), InvalidInput (422), or 413 by size."""
    if request.mimetype != JSON_TYPE:
        raise UnsupportedMediaType()
    try:
        return model.model_validate_json(_with_whole_numbers(whole_body()))
    except ValidationError as error:
        raise refusal(error, model) from None


def _with_whole_numbers(body: bytes) -> bytes:
    """JSON has one kind of number: 2.0 is as whole as 2 (JSON Schema 2020-12, 6.3), but not for strict models."""
    if not _MAYBE_WHOLE.search(body):
        return body
    try:
        document = json.loads(body, parse_float=_number, parse_constant=_no_number)
        return json.dumps(document).encode()
    except (ValueError, RecursionError):
        return body  # the model says what is wrong with it


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < _EXACT_BELOW else value


def _no_number(text: str) -> None:
    raise ValueError(text)


def whole_body() -> bytes:
    """The body, as large as the guard allows. A larger one is 413, also when it comes without a length."""
    body = request.get_data(cache=False)
    if request.content_length is None:
        request.stream.read(1)  # werkzeug cuts such a body at its limit, and complains only at the next byte
    return body


def query_as(model: type[Model]) -> Model:
    """The query string. A name that the route does not know, or one given twice, is a mistake and refused."""
    given: dict[str, Any] = {}
    for name, values in request.args.lists():
        field = model.model_fields.get(name)
        if any("\0" in value for value in values):
            raise InvalidInput("A query parameter holds a NUL character.", field=name)
        if field is not None and _is_list(field.annotation):
            given[name] = values
        elif len(values) > 1:
            raise InvalidInput(f"{name} is given more than once.", field=name)
        else:
            _check_number(name, values[0], None if field is None else field.annotation)
            given[name] = values[0]
    try:
        return model.model_validate(given)
    except ValidationError as error:
        refused = refusal(error, model)
        refused.field = refused.field and refused.field.partition(".")[0]  # which of several is not said
        raise refused from None


def _check_number(name: str, text: str, annotation: Any) -> None:
    """What Python would read as a number, such as 1_0, is none to anybody else. Raises InvalidInput."""
    for kind, form, words in _NUMBERS:
        if (annotation is kind or kind in getattr(annotation, "__args__", ())) and not form.fullmatch(text):
            raise InvalidInput(f"{name} should be {words}.", field=name)


def header_as(model: type[Model]) -> Model:
    """The headers that the model names, by their aliases."""
    given = {
        field.alias: request.headers[field.alias]
        for field in model.model_fields.values()
        if field.alias and field.alias in request.headers
    }
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise refusal(error, model) from None


def path_as(model: type[Model], values: dict[str, Any]) -> Model:
    """The parts of the path. What cannot be an id names nothing: NotFound."""
    for name, value in values.items():
        kind = model.model_fields[name].annotation
        if (kind is UUID and not _is_uuid(value)) or "\0" in value:
            what = name.removesuffix("_id").replace("_", " ")
            raise NotFound(f"There is no {what} with this id. Check the id: it is a UUID.")
    try:
        return model.model_validate(values)
    except ValidationError:
        raise NotFound() from None


def refusal(error: ValidationError, model: type[BaseModel]) -> HodeiError:
    """The first thing that is wrong, as a person would say it."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return MalformedBody(
            f"The body is not valid JSON: {first.get('ctx', {}).get('error', 'it is empty')}."
        )
    field = ".".join(str(part) for part in first["loc"]) or first.get("ctx", {}).get("field")
    return InvalidInput(_sentence(first, field, model), field=field)


def _sentence(error: ErrorDetails, field: str | None, model: type[BaseModel]) -> str:
    kind, message = error["type"], error["msg"]
    if kind == "missing":
        return f"{field} is missing."
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), _fields_at(model, error["loc"]), n=1)
        return f"{field} is not known here{f': did you mean {near[0]}' if near else ''}{'?' if near else '.'}"
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        return message if message.endswith((".", "?")) else f"{field} {message}."
    if kind in ("too_long", "too_short"):
        most = kind == "too_long"
        number = error.get("ctx", {}).get("max_length" if most else "min_length")
        return f"{field or 'The body'} must have at {'most' if most else 'least'} {number} entries."
    if field is None and kind == "model_type":
        return "The body must be a JSON object."
    for subject in ("Input ", "String ", "List ", "Dictionary ", "Value "):
        if message.startswith(subject):
            return f"{field or 'The body'} {message.removeprefix(subject)}."
    return message if message.endswith(".") else f"{message}."


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    for part in loc[:-1]:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        inner = _model_in(model.model_fields[part].annotation)
        if inner is not None:
            model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((found for found in inner if found is not None), None)


def _is_list(annotation: Any) -> bool:
    arguments = getattr(annotation, "__args__", ())
    return getattr(annotation, "__origin__", None) is list or any(
        _is_list(argument) for argument in arguments
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
