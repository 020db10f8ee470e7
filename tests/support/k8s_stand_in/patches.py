"""The three ways to patch an object: JSON patch, merge patch, strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

from support.k8s_stand_in import refusals

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
ACCEPTED = (JSON_PATCH, MERGE_PATCH, STRATEGIC)

_MERGE_KEYS = {
    "containers": "name", "initContainers": "name", "ephemeralContainers": "name", "volumes": "name", "env": "name",
    "volumeMounts": "mountPath", "ports": "containerPort", "imagePullSecrets": "name", "hostAliases": "ip",
    "ownerReferences": "uid", "conditions": "type", "secrets": "name", "topologySpreadConstraints": "topologyKey",
    "taints": "key", "addresses": "type",
}  # fmt: skip
_MERGED_PRIMITIVES = {"finalizers"}


def apply(kind: str, item: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The object patched; the one given stays as it is. Raises Refusal."""
    media = kind.partition(";")[0].strip()
    if media == JSON_PATCH:
        if not isinstance(patch, list):
            raise refusals.bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
        return json_patch(item, patch)
    if media not in ACCEPTED:
        raise refusals.unsupported_media()
    if not isinstance(patch, dict):
        raise refusals.bad_request(
            "json: cannot unmarshal array into Go value of type map[string]interface {}"
        )
    merged: dict[str, Any] = (
        merge_patch(item, patch) if media == MERGE_PATCH else strategic_merge(copy.deepcopy(item), patch)
    )
    return merged


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def strategic_merge(target: Any, patch: dict[str, Any]) -> Any:
    """Kubernetes' own: lists of things with a key are merged by it, and directives begin with ``$``."""
    directive = patch.get("$patch")
    if directive == "delete":
        return None
    merged = {} if directive == "replace" or not isinstance(target, dict) else target
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            merged[field] = [one for one in merged.get(field) or () if one not in value]
        elif name.startswith("$"):
            continue
        elif value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner = strategic_merge(merged.get(name), value)
            merged.pop(name, None)
            merged |= {} if inner is None else {name: inner}
        elif isinstance(value, list):
            merged[name] = _lists(name, merged.get(name) or [], value)
        else:
            merged[name] = value
    return merged


def _lists(name: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if name in _MERGED_PRIMITIVES:
        return [*target, *(one for one in patch if one not in target)]
    key = _MERGE_KEYS.get(name)
    if key is None or any(not isinstance(one, dict) for one in patch):
        return copy.deepcopy(patch)
    if any(one.get("$patch") == "replace" for one in patch):
        return [copy.deepcopy(one) for one in patch if "$patch" not in one]
    merged = list(target)
    for one in patch:
        if key not in one:
            raise refusals.bad_request(f"map: {one} does not contain declared merge key: {key}")
        at = next((at for at, found in enumerate(merged) if found.get(key) == one[key]), None)
        if at is None:
            if one.get("$patch") != "delete":
                merged.append(copy.deepcopy(one))
        elif one.get("$patch") == "delete":
            del merged[at]
        else:
            merged[at] = strategic_merge(copy.deepcopy(merged[at]), one)
    return merged


def json_patch(item: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """RFC 6902."""
    document: Any = {"": copy.deepcopy(item)}
    for operation in operations:
        try:
            _operate(document, operation)
        except (KeyError, IndexError, TypeError, ValueError):
            message = "the server rejected our request due to an error in our request"
            raise refusals.Refusal(422, "Invalid", message) from None
    patched: dict[str, Any] = document[""]
    return patched


def _operate(document: Any, operation: dict[str, Any]) -> None:
    kind, path = operation["op"], operation["path"]
    parent, last = _parent(document, path)
    if kind in ("move", "copy"):
        source, name = _parent(document, operation["from"])
        value = copy.deepcopy(source[_index(source, name)])
        if kind == "move":
            del source[_index(source, name)]
        _add(parent, last, value)
    elif kind == "add":
        _add(parent, last, operation["value"])
    elif kind == "replace":
        parent[_index(parent, last)]
        parent[_index(parent, last)] = operation["value"]
    elif kind == "remove":
        del parent[_index(parent, last)]
    elif kind == "test":
        if parent[_index(parent, last)] != operation["value"]:
            raise ValueError(f"testing value {path} failed: test failed")
    else:
        raise ValueError(f"Unexpected kind: {kind}")


def _parent(document: Any, path: str) -> tuple[Any, str]:
    steps = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")]
    found = document
    for step in steps[:-1]:
        found = found[_index(found, step)]
    return found, steps[-1]


def _index(parent: Any, step: str) -> Any:
    return int(step) if isinstance(parent, list) else step


def _add(parent: Any, step: str, value: Any) -> None:
    if isinstance(parent, list):
        parent.insert(len(parent) if step == "-" else int(step), value)
    else:
        parent[step] = value
