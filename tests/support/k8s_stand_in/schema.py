"""The fields of every kind, as the Python client's models know them: unknown ones are dropped, wrong types refused."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from kubernetes.client import models

from support.k8s_stand_in import quantities, refusals
from support.k8s_stand_in.resources import Resource

_QUANTITIES = {"requests", "limits", "hard", "used", "capacity", "allocatable", "overhead"}
_PLAIN: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "string"),
    "int": ((int,), "int64"),
    "bool": ((bool,), "bool"),
    "float": ((int, float), "float64"),
    "datetime": ((str,), "v1.Time"),
    "date": ((str,), "v1.Time"),
}
_INDEX = re.compile(r"\[\d+\]")
_JSON_NAMES = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


def decode(resource: Resource, document: Any) -> tuple[dict[str, Any], list[str]]:
    """The document with its known fields alone, nulls left out, and the paths of the unknown ones.

    Raises BadRequest for a field of the wrong type.
    """
    unknown: list[str] = []
    if not isinstance(document, dict):
        raise refusals.bad_request(f"the object provided is unrecognized (must be of type {resource.kind})")
    decoder = _Decoder(resource, unknown)
    known = decoder.object(resource.model, document, "")
    return known | {"apiVersion": resource.api_version, "kind": resource.kind}, unknown


@cache
def fields(model: str) -> dict[str, str]:
    """JSON name → type, in the words of the client's models."""
    found = getattr(models, model)
    return {found.attribute_map[name]: kind for name, kind in found.openapi_types.items()}


class _Decoder:
    def __init__(self, resource: Resource, unknown: list[str]) -> None:
        self.resource = resource
        self.unknown = unknown

    def object(self, model: str, document: dict[str, Any], path: str) -> dict[str, Any]:
        types = fields(model)
        found = {}
        for name, value in document.items():
            inner = f"{path}.{name}" if path else name
            if name not in types:
                self.unknown.append(inner)
            elif value is not None:
                found[name] = self.value(types[name], value, inner, name)
        return found

    def value(self, kind: str, value: Any, path: str, name: str) -> Any:
        if kind == "object":
            return value
        if found := re.fullmatch(r"list\[(.+)\]", kind):
            items = self._expect(value, (list,), kind, path)
            return [self.value(found[1], item, f"{path}[{at}]", name) for at, item in enumerate(items)]
        if found := re.fullmatch(r"dict[(\[]str, (.+)[)\]]", kind):
            entries = self._expect(value, (dict,), kind, path)
            if name in _QUANTITIES:
                return {key: self._quantity(item, f"{path}.{key}") for key, item in entries.items()}
            return {key: self.value(found[1], item, f"{path}.{key}", name) for key, item in entries.items()}
        if name == "sizeLimit":
            return self._quantity(value, path)
        if kind in _PLAIN:
            wanted, _ = _PLAIN[kind]
            return self._expect(value, wanted, kind, path)
        return self.object(kind, self._expect(value, (dict,), kind, path), path)

    def _expect(self, value: Any, wanted: tuple[type, ...], kind: str, path: str) -> Any:
        if isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool)):
            return value
        said = _JSON_NAMES.get(type(value), "null")
        go = _PLAIN[kind][1] if kind in _PLAIN else kind
        field = f"{self.resource.kind}.{_INDEX.sub('', path)}"
        raise self._refused(f"json: cannot unmarshal {said} into Go struct field {field} of type {go}")

    def _quantity(self, value: Any, path: str) -> str:
        try:
            return quantities.canonical(str(value))
        except ValueError as error:
            raise self._refused(str(error)) from None

    def _refused(self, words: str) -> refusals.Refusal:
        kind = self.resource.kind
        return refusals.bad_request(
            f'{kind} in version "{self.resource.version}" cannot be handled as a {kind}: {words}'
        )
