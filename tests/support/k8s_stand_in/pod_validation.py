"""What the API server accepts of a pod, in what matters to somebody who makes them; and what of it may change later."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from support.k8s_stand_in import metadata, quantities
from support.k8s_stand_in.pod_defaults import all_containers
from support.k8s_stand_in.refusals import Cause

_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_ENV_WORDS = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not "
    "start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is "
    "'[-._a-zA-Z][-._a-zA-Z0-9]*')"
)
_POLICIES = ("Always", "OnFailure", "Never")
_PULLS = ("Always", "IfNotPresent", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
MAY_CHANGE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def faults(pod: dict[str, Any]) -> Iterator[Cause]:
    """What is wrong with the spec of a new pod."""
    spec = pod["spec"]
    if not spec.get("containers"):
        yield Cause("FieldValueRequired", "spec.containers")
    if spec["restartPolicy"] not in _POLICIES:
        yield _unsupported("spec.restartPolicy", spec["restartPolicy"], _POLICIES)
    if spec["dnsPolicy"] not in _DNS:
        yield _unsupported("spec.dnsPolicy", spec["dnsPolicy"], _DNS)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        detail = "must be between 1 and 2147483647, inclusive"
        yield Cause("FieldValueInvalid", "spec.activeDeadlineSeconds", deadline, detail)
    yield from metadata.selector_faults("spec.nodeSelector", spec.get("nodeSelector") or {})
    volumes = [volume.get("name", "") for volume in spec.get("volumes") or ()]
    for at, name in enumerate(volumes):
        yield from _name(f"spec.volumes[{at}].name", name, volumes[:at])
    seen: list[str] = []
    for group in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(group) or ()):
            path = f"spec.{group}[{at}]"
            yield from _name(f"{path}.name", container.get("name", ""), seen)
            seen.append(container.get("name", ""))
            yield from _container(path, container, volumes)


def change_faults(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Cause]:
    """What a write changes that may not be changed in a pod that exists."""
    old, new = copy.deepcopy(before["spec"]), copy.deepcopy(after["spec"])
    for spec in (old, new):
        for container in all_containers(spec):
            container.pop("image", None)
    shorter = new.pop("activeDeadlineSeconds", None)
    longer = old.pop("activeDeadlineSeconds", None)
    if longer is not None and (shorter is None or shorter > longer):
        detail = (
            "must be less than or equal to previous value"
            if shorter
            else "must not update from a positive integer to nil value"
        )
        yield Cause("FieldValueInvalid", "spec.activeDeadlineSeconds", shorter, detail)
    kept, given = old.pop("tolerations", []), new.pop("tolerations", [])
    if given[: len(kept)] != kept or old != new:
        yield Cause("FieldValueForbidden", "spec", detail=MAY_CHANGE)


def _container(path: str, container: dict[str, Any], volumes: list[str]) -> Iterator[Cause]:
    if not container.get("image", "").strip():
        yield Cause("FieldValueRequired", f"{path}.image")
    if container["imagePullPolicy"] not in _PULLS:
        yield _unsupported(f"{path}.imagePullPolicy", container["imagePullPolicy"], _PULLS)
    for at, variable in enumerate(container.get("env") or ()):
        name = variable.get("name", "")
        if not name:
            yield Cause("FieldValueRequired", f"{path}.env[{at}].name")
        elif not _ENV_NAME.fullmatch(name):
            yield Cause("FieldValueInvalid", f"{path}.env[{at}].name", name, _ENV_WORDS)
        if variable.get("value") and variable.get("valueFrom"):
            detail = "may not be specified when `value` is not empty"
            yield Cause("FieldValueInvalid", f"{path}.env[{at}].valueFrom", "", detail)
    targets: list[str] = []
    for at, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            yield Cause("FieldValueNotFound", f"{path}.volumeMounts[{at}].name", mount.get("name", ""))
        if not mount.get("mountPath"):
            yield Cause("FieldValueRequired", f"{path}.volumeMounts[{at}].mountPath")
        elif mount["mountPath"] in targets:
            where = f"{path}.volumeMounts[{at}].mountPath"
            yield Cause("FieldValueInvalid", where, mount["mountPath"], "must be unique")
        targets.append(mount.get("mountPath", ""))
    yield from _resources(f"{path}.resources", container["resources"])


def _resources(path: str, resources: dict[str, Any]) -> Iterator[Cause]:
    limits = resources.get("limits") or {}
    for kind in ("limits", "requests"):
        for name, text in (resources.get(kind) or {}).items():
            if quantities.amount(text) < 0:
                detail = "must be greater than or equal to 0"
                yield Cause("FieldValueInvalid", f"{path}.{kind}[{name}]", text, detail)
            if "/" in name and name not in limits:
                yield Cause(
                    "FieldValueRequired",
                    f"{path}.limits",
                    detail="Limit must be set for non overcommitable resources",
                )
            elif (
                "/" not in name
                and name not in ("cpu", "memory", "ephemeral-storage")
                and not name.startswith("hugepages-")
            ):
                yield Cause(
                    "FieldValueInvalid",
                    f"{path}.{kind}[{name}]",
                    name,
                    "must be a standard resource type or fully qualified",
                )
    for name, text in (resources.get("requests") or {}).items():
        limit = limits.get(name)
        if limit is not None and quantities.amount(text) > quantities.amount(limit):
            detail = f"must be less than or equal to {name} limit of {limit}"
            yield Cause("FieldValueInvalid", f"{path}.requests", text, detail)


def _name(path: str, name: str, taken: list[str]) -> Iterator[Cause]:
    if not name:
        yield Cause("FieldValueRequired", path)
    elif not metadata.is_label(name):
        yield Cause("FieldValueInvalid", path, name, metadata.LABEL_WORDS)
    elif name in taken:
        yield Cause("FieldValueDuplicate", path, name)


def _unsupported(path: str, value: str, known: tuple[str, ...]) -> Cause:
    detail = "supported values: " + ", ".join(f'"{one}"' for one in known)
    return Cause("FieldValueNotSupported", path, value, detail)
