"""``metadata``: what the server fills in, and what it accepts of it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from support.k8s_stand_in import clock
from support.k8s_stand_in.refusals import Cause
from support.k8s_stand_in.resources import NAMESPACES, Resource

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")

SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_NAME_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
ANNOTATIONS_MAX_BYTES = 256 * 1024


def stamp(item: dict[str, Any], namespace: str) -> None:
    """Fill in what the server itself says of a new object."""
    meta = item.setdefault("metadata", {})
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = f"{meta['generateName'][:58]}{secrets.token_hex(3)[:5]}"
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"):
        meta.pop(name, None)
    meta |= {"uid": str(uuid4()), "creationTimestamp": clock.now()}
    if namespace:
        meta["namespace"] = namespace


def faults(resource: Resource, item: dict[str, Any]) -> Iterator[Cause]:
    """What is wrong with the metadata of an object."""
    meta = item["metadata"]
    name = meta.get("name", "")
    if not name:
        yield Cause("FieldValueRequired", "metadata.name", detail="name or generateName is required")
    elif resource is NAMESPACES and (len(name) > 63 or not _LABEL.fullmatch(name)):
        yield Cause("FieldValueInvalid", "metadata.name", name, LABEL_WORDS)
    elif len(name) > 253:
        yield Cause("FieldValueInvalid", "metadata.name", name, "must be no more than 253 characters")
    elif not resource.group.startswith("rbac") and not _SUBDOMAIN.fullmatch(name):
        yield Cause("FieldValueInvalid", "metadata.name", name, SUBDOMAIN_WORDS)
    for key, value in (meta.get("labels") or {}).items():
        yield from _key_faults("metadata.labels", key)
        if len(value) > 63:
            yield Cause("FieldValueInvalid", "metadata.labels", value, "must be no more than 63 bytes")
        elif not _VALUE.fullmatch(value):
            yield Cause("FieldValueInvalid", "metadata.labels", value, _VALUE_WORDS)
    annotations = meta.get("annotations") or {}
    for key in annotations:
        yield from _key_faults("metadata.annotations", key.lower())
    if sum(len(key) + len(value.encode()) for key, value in annotations.items()) > ANNOTATIONS_MAX_BYTES:
        detail = f"must have at most {ANNOTATIONS_MAX_BYTES} bytes"
        yield Cause("FieldValueTooLong", "metadata.annotations", detail=detail)
    for at, owner in enumerate(meta.get("ownerReferences") or ()):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                path = f"metadata.ownerReferences[{at}].{field}"
                yield Cause("FieldValueInvalid", path, "", "must not be empty")


def _key_faults(path: str, key: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not (_SUBDOMAIN.fullmatch(prefix) and len(prefix) <= 253):
        yield Cause("FieldValueInvalid", path, key, f"prefix part {SUBDOMAIN_WORDS}")
    if len(name) > 63:
        yield Cause("FieldValueInvalid", path, key, "name part must be no more than 63 bytes")
    elif not _NAME.fullmatch(name):
        yield Cause("FieldValueInvalid", path, key, _NAME_WORDS)


def is_label(name: str) -> bool:
    """Whether this is a name of a container or a volume."""
    return len(name) <= 63 and bool(_LABEL.fullmatch(name))


def selector_faults(path: str, labels: dict[str, str]) -> Iterator[Cause]:
    """What is wrong with labels elsewhere than in the metadata, such as a node selector."""
    for key, value in labels.items():
        yield from _key_faults(path, key)
        if len(value) > 63 or not _VALUE.fullmatch(value):
            yield Cause("FieldValueInvalid", path, value, _VALUE_WORDS)
