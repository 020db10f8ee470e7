"""Who may do what: the Roles and bindings that are in the store, evaluated at each request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from support.k8s_stand_in import refusals
from support.k8s_stand_in.accounts import ANONYMOUS, MASTERS, User
from support.k8s_stand_in.requests import Request
from support.k8s_stand_in.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from support.k8s_stand_in.store import Store

Rule = dict[str, Any]
PUBLIC = ("/healthz", "/livez", "/readyz", "/version")
_DISCOVERY = (
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/openapi",
    "/openapi/*",
    *(f"{path}*" for path in PUBLIC),
)
EVERYBODY: tuple[Rule, ...] = (
    {
        "verbs": ["create"],
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    },
    {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
    {"verbs": ["get"], "nonResourceURLs": list(_DISCOVERY)},
)
"""What the built-in bindings give to everybody who has a token."""


class Authorizer:
    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, request: Request) -> None:
        """Raises Forbidden with the real server's sentence."""
        user, resource = request.user, request.resource
        if resource is None:
            if not self.allows_path(user, request.verb, request.path):
                raise refusals.forbidden_path(user.name, request.verb, request.path)
            return
        plural = f"{resource.plural}/{request.subresource}" if request.subresource else resource.plural
        if self.why_allowed(
            user, request.verb, resource.group, plural, namespace=request.namespace, name=request.name
        ):
            return
        place = f'in the namespace "{request.namespace}"' if request.namespace else "at the cluster scope"
        why = f'User "{user.name}" cannot {request.verb} resource "{plural}" in API group "{resource.group}" {place}'
        name = "" if request.verb in ("list", "watch", "create", "deletecollection") else request.name
        raise refusals.forbidden(resource.group, resource.plural, name, why)

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        if MASTERS in user.groups or path in PUBLIC:
            return True
        return any(_path_matches(rule, verb, path) for _, rule in self.rules(user, ""))

    def why_allowed(
        self, user: User, verb: str, group: str, plural: str, *, namespace: str = "", name: str = ""
    ) -> str:
        """The binding that allows it, in words; empty: nothing does."""
        if MASTERS in user.groups:
            return "it is the cluster's administrator"
        for why, rule in self.rules(user, namespace):
            if _matches(rule, verb, group, plural, name):
                return why or "RBAC: allowed by a built-in binding"
        return ""

    def rules(self, user: User, namespace: str) -> Iterator[tuple[str, Rule]]:
        """Each rule that applies to the user in a namespace, with the binding that gives it."""
        if user != ANONYMOUS:
            yield from (("", rule) for rule in EVERYBODY)
        for binding in self._store.list(CLUSTER_ROLE_BINDINGS):
            yield from self._given(binding, user, "")
        if namespace:
            for binding in self._store.list(ROLE_BINDINGS, namespace):
                yield from self._given(binding, user, namespace)

    def _given(self, binding: dict[str, Any], user: User, namespace: str) -> Iterator[tuple[str, Rule]]:
        subject = next((one for one in binding.get("subjects") or () if _is(one, user, namespace)), None)
        if subject is None:
            return
        ref = binding["roleRef"]
        kind, place = (ROLES, namespace) if ref["kind"] == "Role" else (CLUSTER_ROLES, "")
        role = self._store.get(kind, place, ref["name"])
        if role is None:
            return
        bound = f"{binding['metadata']['name']}/{namespace}" if namespace else binding["metadata"]["name"]
        shown = f"{subject['name']}/{subject.get('namespace', namespace)}"
        why = (
            f'RBAC: allowed by {"Role" if namespace else "ClusterRole"}Binding "{bound}" of {ref["kind"]} '
            f'"{ref["name"]}" to {subject["kind"]} "{shown if subject["kind"] == "ServiceAccount" else subject["name"]}"'
        )
        for rule in role.get("rules") or ():
            yield why, rule


def _is(subject: dict[str, Any], user: User, namespace: str) -> bool:
    if subject["kind"] == "ServiceAccount":
        return user.name == f"system:serviceaccount:{subject.get('namespace') or namespace}:{subject['name']}"
    if subject["kind"] == "Group":
        return subject["name"] in user.groups
    return bool(subject["name"] == user.name)


def _matches(rule: Rule, verb: str, group: str, plural: str, name: str) -> bool:
    resources = rule.get("resources") or ()
    _, slash, sub = plural.partition("/")
    fits = "*" in resources or plural in resources or (bool(slash) and f"*/{sub}" in resources)
    names = rule.get("resourceNames") or ()
    return (
        fits
        and bool({"*", verb} & set(rule["verbs"]))
        and bool({"*", group} & set(rule.get("apiGroups") or ()))
        and (not names or name in names)
    )


def _path_matches(rule: Rule, verb: str, path: str) -> bool:
    urls = rule.get("nonResourceURLs") or ()
    return bool({"*", verb} & set(rule["verbs"])) and any(
        url in ("*", path) or (url.endswith("*") and path.startswith(url[:-1])) for url in urls
    )
