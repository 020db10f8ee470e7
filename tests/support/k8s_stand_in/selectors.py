"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from support.k8s_stand_in import refusals
from support.k8s_stand_in.resources import EVENTS, NODES, PODS, SECRETS, Resource

Matches = Callable[[dict[str, Any]], bool]

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUALS = re.compile(r"^(?P<key>[^\s=!]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s=!]*)$")
_KEY = re.compile(r"^(?:[a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
_FIELDS = {
    PODS: ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase",
           "status.podIP", "status.nominatedNodeName"),
    SECRETS: ("type",),
    NODES: ("spec.unschedulable",),
    EVENTS: ("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
             "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
             "reportingComponent", "source", "type"),
}  # fmt: skip


def label_selector(text: str) -> Matches:
    """Raises BadRequest for one that cannot be read."""
    parts = [_requirement(part) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return lambda item: all(part(item["metadata"].get("labels") or {}) for part in parts)


def _requirement(text: str) -> Callable[[dict[str, str]], bool]:
    text = text.strip()
    if found := _SET.match(text):
        key, wanted = found["key"], {value.strip() for value in found["values"].split(",")}
        _check_key(key, text)
        if found["op"] == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: labels.get(key) not in wanted
    if found := _EQUALS.match(text):
        key, value = found["key"], found["value"]
        _check_key(key, text)
        if found["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    absent = text.startswith("!")
    key = text.lstrip("!").strip()
    _check_key(key, text)
    return lambda labels: (key in labels) is not absent


def _check_key(key: str, text: str) -> None:
    if not _KEY.match(key):
        raise refusals.bad_request(f"unable to parse requirement: <nil>: Invalid value: {text!r}")


def field_selector(resource: Resource, text: str) -> Matches:
    """Raises BadRequest for a field by which this resource cannot be selected."""
    known = {"metadata.name", "metadata.namespace", *_FIELDS.get(resource, ())}
    parts = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _EQUALS.match(part)
        if found is None:
            raise refusals.bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        if found["key"] not in known:
            raise refusals.bad_request(f"field label not supported: {found['key']}")
        parts.append((found["key"], found["op"] != "!=", found["value"]))
    return lambda item: all((_at(item, path) == value) is equal for path, equal, value in parts)


def _at(item: dict[str, Any], path: str) -> str:
    found: Any = item
    for step in path.split("."):
        found = (found or {}).get(step)
    if path == "source" and isinstance(found, dict):
        found = found.get("component")
    return "" if found is None else str(found)


def named_by(fields: str) -> str:
    """The name in ``metadata.name=x``: such a list or watch counts as one of that object for RBAC."""
    for part in fields.split(","):
        key, equals, value = part.strip().partition("=")
        if key == "metadata.name" and equals:
            return value.lstrip("=")
    return ""
