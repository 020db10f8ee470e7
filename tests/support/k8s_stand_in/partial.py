"""Objects without what is in them, for clients that ask for ``PartialObjectMetadata``."""

from __future__ import annotations

from typing import Any

from support.k8s_stand_in.store import Object

API_VERSION = "meta.k8s.io/v1"


def asked_for(accept: str) -> bool:
    """Whether the first kind of answer that the client wants is this one."""
    return "as=PartialObjectMetadata" in accept.partition(",")[0]


def of(document: Object) -> Object:
    """An object or a list of them, reduced to metadata."""
    if "items" not in document:
        return {"kind": "PartialObjectMetadata", "apiVersion": API_VERSION, "metadata": document["metadata"]}
    items = [of(item) for item in document["items"]]
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": API_VERSION,
        "metadata": document["metadata"],
        "items": items,
    }


def of_event(event: dict[str, Any]) -> dict[str, Any]:
    """An event of a watch; an error stays what it is."""
    return event if event["type"] == "ERROR" else event | {"object": of(event["object"])}
