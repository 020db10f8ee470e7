"""Reads the very manifests that are shipped, and puts what is in them into the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from support.k8s_stand_in import metadata, schema
from support.k8s_stand_in.accounts import User, service_account
from support.k8s_stand_in.resources import BY_KIND, NAMESPACES
from support.k8s_stand_in.store import Store


class UnknownManifest(Exception):
    """A kind or a field of a shipped manifest that the stand-in does not know."""


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    """All documents of the YAML files of a folder, in the files' order, as ``kubectl apply -f`` takes them."""
    for file in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document:
                yield from document["items"] if document["kind"] == "List" else [document]


def apply(store: Store, manifests: list[dict[str, Any]]) -> None:
    """Create everything, namespaces first. Raises UnknownManifest."""
    known = [(BY_KIND.get((one["apiVersion"], one["kind"])), one) for one in manifests]
    for resource, document in sorted(known, key=lambda pair: pair[0] is not NAMESPACES):
        if resource is None:
            raise UnknownManifest(f"{document['apiVersion']} {document['kind']}")
        item, unknown = schema.decode(resource, document)
        if unknown:
            raise UnknownManifest(
                f"{document['kind']} {document['metadata']['name']}: unknown fields {unknown}"
            )
        namespace = document["metadata"].get("namespace", "default") if resource.namespaced else ""
        if resource is NAMESPACES:
            item["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = item["metadata"][
                "name"
            ]
            item |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        metadata.stamp(item, namespace)
        if store.get(resource, namespace, item["metadata"]["name"]) is None:
            store.create(resource, item)


def bound_account(manifests: list[dict[str, Any]]) -> User:
    """The account to which the shipped RoleBinding gives its rights: the control plane's."""
    for document in manifests:
        if document["kind"] == "RoleBinding":
            for subject in document["subjects"]:
                if subject["kind"] == "ServiceAccount":
                    namespace = subject.get("namespace") or document["metadata"]["namespace"]
                    return service_account(namespace, subject["name"])
    raise UnknownManifest("no RoleBinding gives a ServiceAccount its rights")
