"""The questions that anybody may ask about their own rights."""

from __future__ import annotations

from typing import Any

from support.k8s_stand_in import refusals
from support.k8s_stand_in.accounts import User
from support.k8s_stand_in.rbac import Authorizer
from support.k8s_stand_in.resources import (
    SELF_ACCESS_REVIEWS,
    SELF_RULES_REVIEWS,
    Resource,
)


def answer(authorizer: Authorizer, user: User, resource: Resource, item: dict[str, Any]) -> dict[str, Any]:
    """The review with its ``status``."""
    item.setdefault("metadata", {})
    if resource is SELF_ACCESS_REVIEWS:
        return item | {"status": _access(authorizer, user, item.get("spec") or {})}
    if resource is SELF_RULES_REVIEWS:
        return item | {"status": _rules(authorizer, user, (item.get("spec") or {}).get("namespace", ""))}
    return item | {"status": {"userInfo": user.document()}}


def _access(authorizer: Authorizer, user: User, spec: dict[str, Any]) -> dict[str, Any]:
    asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (asked is None) is (path is None):
        raise refusals.bad_request(
            "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        )
    if path is not None:
        return {"allowed": authorizer.allows_path(user, path.get("verb", ""), path.get("path", ""))}
    plural = asked.get("resource", "")
    if asked.get("subresource"):
        plural += f"/{asked['subresource']}"
    why = authorizer.why_allowed(
        user,
        asked.get("verb", ""),
        asked.get("group", ""),
        plural,
        namespace=asked.get("namespace", ""),
        name=asked.get("name", ""),
    )
    return {"allowed": bool(why)} | ({"reason": why} if why else {})


def _rules(authorizer: Authorizer, user: User, namespace: str) -> dict[str, Any]:
    if not namespace:
        raise refusals.bad_request("no namespace on request")
    rules = [rule for _, rule in authorizer.rules(user, namespace)]
    return {
        "resourceRules": [rule for rule in rules if rule.get("resources")],
        "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": False,
    }
