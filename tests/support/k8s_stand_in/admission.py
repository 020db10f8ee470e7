"""What happens to a new object between its request and the store: defaults, checks, Pod Security, quota."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from support.k8s_stand_in import metadata, pod_defaults, pod_security, pod_validation, quota, refusals
from support.k8s_stand_in.refusals import Cause
from support.k8s_stand_in.resources import (
    NAMESPACES,
    PODS,
    PRIORITY_CLASSES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from support.k8s_stand_in.store import Store

_TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SECRET_MAX_BYTES = 1024 * 1024


def admit(store: Store, resource: Resource, namespace: str, item: dict[str, Any]) -> list[str]:
    """Make the object ready to be stored, or raise Refusal; return the warnings. Hold ``store.changed``."""
    if resource.namespaced:
        _check_namespace(store, resource, namespace, item)
    metadata.stamp(item, namespace)
    causes = list(metadata.faults(resource, item))
    if resource is PODS:
        pod_defaults.fill_in(item)
        if not causes:
            _service_account(store, item)
            _priority(store, item)
        causes += pod_validation.faults(item)
    elif resource is SECRETS:
        causes += fold_secret(item)
    elif resource is NAMESPACES:
        item["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = item["metadata"].get(
            "name", ""
        )
        item["spec"] = {"finalizers": ["kubernetes"]}
        item["status"] = {"phase": "Active"}
    if causes:
        raise refusals.invalid(resource.group, resource.kind, item["metadata"].get("name", ""), causes)
    warnings = _pod_security(store, item) if resource is PODS else []
    if resource.namespaced:
        quota.check(store, resource, namespace, item)
    return warnings


def fold_secret(secret: dict[str, Any]) -> Iterator[Cause]:
    """``stringData`` goes into ``data``. Raises BadRequest for data that is not base64."""
    secret.setdefault("type", "Opaque")
    data = dict(secret.get("data") or {})
    for key, value in data.items():
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            message = (
                'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0'
            )
            raise refusals.bad_request(f"{message} (data.{key})") from None
    for key, value in (secret.pop("stringData", None) or {}).items():
        data[key] = base64.b64encode(value.encode()).decode()
    if data:
        secret["data"] = data
    for key in data:
        if not all(char.isalnum() or char in "-._" for char in key) or len(key) > 253:
            detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
            yield Cause("FieldValueInvalid", f"data[{key}]", key, detail)
    if sum(len(value) for value in data.values()) > _SECRET_MAX_BYTES:
        yield Cause("FieldValueTooLong", "data", detail=f"must have at most {_SECRET_MAX_BYTES} bytes")


def _check_namespace(store: Store, resource: Resource, namespace: str, item: dict[str, Any]) -> None:
    given = (item.get("metadata") or {}).get("namespace", namespace)
    if given != namespace:
        raise refusals.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    found = store.get(NAMESPACES, "", namespace)
    if found is None:
        raise refusals.not_found("", "namespaces", namespace)
    if found["metadata"].get("deletionTimestamp"):
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        refusal = refusals.forbidden(resource.group, resource.plural, item["metadata"].get("name", ""), why)
        cause = {"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated"}
        refusal.details["causes"] = [cause | {"field": "metadata.namespace"}]
        raise refusal


def _service_account(store: Store, pod: dict[str, Any]) -> None:
    meta, spec = pod["metadata"], pod["spec"]
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    account = store.get(SERVICE_ACCOUNTS, meta["namespace"], name)
    if account is None:
        why = (
            f'error looking up service account {meta["namespace"]}/{name}: serviceaccount "{name}" not found'
        )
        raise refusals.forbidden("", "pods", meta["name"], why)
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    if account.get("imagePullSecrets") and not spec.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    mounts = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
    if mounts:
        volume = "kube-api-access-stand-in"
        spec.setdefault("volumes", []).append(
            {
                "name": volume,
                "projected": {
                    "sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}],
                    "defaultMode": 0o644,
                },
            }
        )
        for container in pod_defaults.all_containers(spec):
            container.setdefault("volumeMounts", []).append(
                {"name": volume, "mountPath": _TOKEN_MOUNT, "readOnly": True}
            )


def _priority(store: Store, pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    spec["priority"], spec["preemptionPolicy"] = 0, "PreemptLowerPriority"
    if name := spec.get("priorityClassName"):
        found = store.get(PRIORITY_CLASSES, "", name)
        if found is None:
            why = f"no PriorityClass with name {name} was found"
            raise refusals.forbidden("", "pods", pod["metadata"]["name"], why)
        spec["priority"] = found.get("value", 0)
        spec["preemptionPolicy"] = found.get("preemptionPolicy", "PreemptLowerPriority")


def _pod_security(store: Store, pod: dict[str, Any]) -> list[str]:
    """Raises Forbidden where the namespace enforces; returns what it only warns of."""
    namespace = store.get(NAMESPACES, "", pod["metadata"]["namespace"]) or {"metadata": {}}
    enforced = pod_security.level(namespace, "enforce")
    if found := pod_security.violations(pod["spec"], enforced):
        why = f'violates PodSecurity "{enforced}:latest": {found}'
        raise refusals.forbidden("", "pods", pod["metadata"]["name"], why)
    warned = pod_security.level(namespace, "warn")
    if found := pod_security.violations(pod["spec"], warned):
        return [f'would violate PodSecurity "{warned}:latest": {found}']
    return []
