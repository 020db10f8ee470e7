"""The kinds that the stand-in knows, and what the discovery documents say of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of object. ``model`` is its class in the Python client, from which its fields are known.

    ``stored`` False: a question that is answered, and not kept.
    """

    group: str = ""
    version: str = "v1"
    plural: str
    kind: str
    model: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    stored: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def verbs(self) -> tuple[str, ...]:
        return VERBS if self.stored else ("create",)


RBAC = "rbac.authorization.k8s.io"
AUTHORIZATION = "authorization.k8s.io"

NAMESPACES = Resource(
    plural="namespaces", kind="Namespace", model="V1Namespace", namespaced=False, short_names=("ns",)
)
NODES = Resource(
    plural="nodes",
    kind="Node",
    model="V1Node",
    namespaced=False,
    short_names=("no",),
    subresources=("status",),
)
PODS = Resource(
    plural="pods",
    kind="Pod",
    model="V1Pod",
    short_names=("po",),
    subresources=("status", "log", "eviction"),
)
SECRETS = Resource(plural="secrets", kind="Secret", model="V1Secret")
CONFIG_MAPS = Resource(plural="configmaps", kind="ConfigMap", model="V1ConfigMap", short_names=("cm",))
EVENTS = Resource(plural="events", kind="Event", model="CoreV1Event", short_names=("ev",))
SERVICES = Resource(plural="services", kind="Service", model="V1Service", short_names=("svc",))
SERVICE_ACCOUNTS = Resource(
    plural="serviceaccounts",
    kind="ServiceAccount",
    model="V1ServiceAccount",
    short_names=("sa",),
    subresources=("token",),
)
QUOTAS = Resource(
    plural="resourcequotas", kind="ResourceQuota", model="V1ResourceQuota", short_names=("quota",)
)
LIMIT_RANGES = Resource(
    plural="limitranges", kind="LimitRange", model="V1LimitRange", short_names=("limits",)
)
ROLES = Resource(group=RBAC, plural="roles", kind="Role", model="V1Role")
ROLE_BINDINGS = Resource(group=RBAC, plural="rolebindings", kind="RoleBinding", model="V1RoleBinding")
CLUSTER_ROLES = Resource(
    group=RBAC, plural="clusterroles", kind="ClusterRole", model="V1ClusterRole", namespaced=False
)
CLUSTER_ROLE_BINDINGS = Resource(
    group=RBAC,
    plural="clusterrolebindings",
    kind="ClusterRoleBinding",
    model="V1ClusterRoleBinding",
    namespaced=False,
)
NETWORK_POLICIES = Resource(
    group="networking.k8s.io",
    plural="networkpolicies",
    kind="NetworkPolicy",
    model="V1NetworkPolicy",
    short_names=("netpol",),
)
PRIORITY_CLASSES = Resource(
    group="scheduling.k8s.io",
    plural="priorityclasses",
    kind="PriorityClass",
    model="V1PriorityClass",
    namespaced=False,
    short_names=("pc",),
)
SELF_ACCESS_REVIEWS = Resource(
    group=AUTHORIZATION,
    plural="selfsubjectaccessreviews",
    kind="SelfSubjectAccessReview",
    model="V1SelfSubjectAccessReview",
    namespaced=False,
    stored=False,
)
SELF_RULES_REVIEWS = Resource(
    group=AUTHORIZATION,
    plural="selfsubjectrulesreviews",
    kind="SelfSubjectRulesReview",
    model="V1SelfSubjectRulesReview",
    namespaced=False,
    stored=False,
)
SELF_REVIEWS = Resource(
    group="authentication.k8s.io",
    plural="selfsubjectreviews",
    kind="SelfSubjectReview",
    model="V1SelfSubjectReview",
    namespaced=False,
    stored=False,
)

ALL = (
    NAMESPACES, NODES, PODS, SECRETS, CONFIG_MAPS, EVENTS, SERVICES, SERVICE_ACCOUNTS, QUOTAS, LIMIT_RANGES,
    ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, NETWORK_POLICIES, PRIORITY_CLASSES,
    SELF_ACCESS_REVIEWS, SELF_RULES_REVIEWS, SELF_REVIEWS,
)  # fmt: skip
BY_PATH = {(one.group, one.version, one.plural): one for one in ALL}
BY_KIND = {(one.api_version, one.kind): one for one in ALL}
GROUPS = sorted({one.group for one in ALL if one.group})


def resource_list(group: str, version: str) -> dict[str, Any]:
    """What ``GET /api/v1`` or ``GET /apis/{group}/{version}`` answers."""
    members = [one for one in ALL if (one.group, one.version) == (group, version)]
    entries = []
    for one in members:
        entry = {"name": one.plural, "singularName": one.kind.lower(), "namespaced": one.namespaced}
        entry |= {"kind": one.kind, "verbs": list(one.verbs)}
        entries.append(entry | ({"shortNames": list(one.short_names)} if one.short_names else {}))
        for name in one.subresources:
            kind = one.kind if name != "eviction" else "Eviction"
            sub = {"name": f"{one.plural}/{name}", "singularName": "", "namespaced": one.namespaced}
            entries.append(
                sub | {"kind": kind, "verbs": ["get"] if name == "log" else ["create", "get", "patch"]}
            )
    group_version = f"{group}/{version}" if group else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": entries,
    }


def group_list() -> dict[str, Any]:
    """What ``GET /apis`` answers."""
    groups = []
    for name in GROUPS:
        version = {"groupVersion": f"{name}/v1", "version": "v1"}
        groups.append({"name": name, "versions": [version], "preferredVersion": version})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
