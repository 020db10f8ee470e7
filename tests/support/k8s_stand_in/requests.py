"""One request: what its path, method and query ask for, as the authorizer sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from support.k8s_stand_in import refusals, selectors
from support.k8s_stand_in.accounts import User
from support.k8s_stand_in.resources import BY_PATH, Resource

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_TRUE = ("1", "true", "True")


@dataclass(frozen=True, kw_only=True)
class Request:
    """``resource`` None: the path names none (``/version``). ``verb`` is RBAC's."""

    user: User
    method: str
    path: str
    verb: str
    query: Mapping[str, str]
    content_type: str
    accept: str
    body: bytes
    resource: Resource | None = None
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    def is_set(self, name: str) -> bool:
        """Whether a query parameter says yes."""
        return self.query.get(name, "") in _TRUE

    @property
    def namespace_key(self) -> str:
        """The namespace under which the store keeps it: none for what is in no namespace."""
        return self.namespace if self.resource is not None and self.resource.namespaced else ""

    @property
    def dry_run(self) -> bool:
        return self.query.get("dryRun") == "All"

    def document(self) -> Any:
        """The body, as JSON or YAML; None when there is none. Raises BadRequest."""
        if not self.body.strip():
            return None
        if "protobuf" in self.content_type:
            raise refusals.unsupported_media()
        try:
            if "yaml" in self.content_type:
                return yaml.safe_load(self.body)
            return json.loads(self.body)
        except (ValueError, yaml.YAMLError) as error:
            said = (
                f"the object provided is unrecognized: couldn't get version/kind; json parse error: {error}"
            )
            raise refusals.bad_request(said) from None


def read(*, user: User, method: str, target: str, content_type: str, accept: str, body: bytes) -> Request:
    """Raises NotFound for a resource that does not exist here."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    path = parts.path.rstrip("/") or "/"
    base: dict[str, Any] = {
        "user": user, "method": method, "path": path, "query": query, "content_type": content_type, "accept": accept,
        "body": body,
    }  # fmt: skip
    words = [unquote(word) for word in path.strip("/").split("/")]
    place = _place(words)
    if place is None:
        return Request(verb=method.lower(), **base)
    group, version, rest = place
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and (group, version, rest[2]) in BY_PATH:
        namespace, rest = rest[1], rest[2:]
    resource = BY_PATH.get((group, version, rest[0]))
    if resource is None or len(rest) > 3:
        raise refusals.no_such_path()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    verb = _verb(method, name, query)
    if verb in ("list", "watch") and not name:
        name = selectors.named_by(query.get("fieldSelector", ""))
    return Request(
        verb=verb,
        resource=resource,
        namespace=rest[1] if resource.plural == "namespaces" and len(rest) > 1 else namespace,
        name=name,
        subresource=subresource,
        **base,
    )


def _place(words: list[str]) -> tuple[str, str, list[str]] | None:
    """Group, version and the rest of a path to a resource."""
    if words[0] == "api" and len(words) > 2:
        return "", words[1], words[2:]
    if words[0] == "apis" and len(words) > 3:
        return words[1], words[2], words[3:]
    return None


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method in ("GET", "HEAD"):
        if query.get("watch") in _TRUE:
            return "watch"
        return "get" if name else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    if method not in _VERBS:
        raise refusals.method_not_allowed()
    return _VERBS[method]
