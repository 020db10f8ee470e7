"""What the API server answers and refuses, in its very words. On a real cluster these tests hold the stand-in to it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from kubernetes import client, watch
from place import Space, pod, refused
from support.clusters import Cluster
from support.k8s_stand_in.cluster import WORKERS
from support.waiting import until

pytestmark = pytest.mark.docker
SAFE = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def secret(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "stringData": {"token": "t"}}


def test_a_name_is_taken_once(space: Space) -> None:
    space.core.create_namespaced_secret(space.name, secret("taken"))

    with refused(409, "AlreadyExists") as said:
        space.core.create_namespaced_secret(space.name, secret("taken"))

    assert said["message"] == 'secrets "taken" already exists'
    assert said["details"] == {"name": "taken", "kind": "secrets"}


def test_what_is_not_there_is_not_found(space: Space) -> None:
    with refused(404, "NotFound") as said:
        space.core.read_namespaced_pod("none", space.name)
    assert said["message"] == 'pods "none" not found'

    with refused(404, "NotFound") as said:
        space.core.create_namespaced_pod("hodei-test-no-such", pod("x"))
    assert said["message"] == 'namespaces "hodei-test-no-such" not found'


def test_a_pod_that_restricted_does_not_let_in_is_told_why(space: Space) -> None:
    body = pod("loose", securityContext={}, spec={"securityContext": {}})

    with refused(403, "Forbidden") as said:
        space.create(body)

    assert said["message"] == (
        'pods "loose" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false '
        '(container "main" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities '
        '(container "main" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container '
        '"main" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "main" must set '
        'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hostNetwork": True, "hostPID": True}, "host namespaces (hostNetwork=true, hostPID=true)"),
        (
            {"volumes": [{"name": "host", "hostPath": {"path": "/etc"}}]},
            'restricted volume types (volume "host" uses restricted volume type "hostPath")',
        ),
        (
            {
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 0,
                    "seccompProfile": {"type": "RuntimeDefault"},
                }
            },
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            {"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "Unconfined"}}},
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            {"securityContext": SAFE | {"appArmorProfile": {"type": "Unconfined"}}},
            'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
        ),
        (
            {"securityContext": SAFE | {"seLinuxOptions": {"type": "spc_t", "user": "system_u"}}},
            'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)',
        ),
        (
            {"securityContext": SAFE | {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            {"securityContext": {"runAsNonRoot": False, "seccompProfile": {"type": "RuntimeDefault"}}},
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
    ],
)
def test_each_break_of_restricted_has_its_words(space: Space, change: dict[str, Any], words: str) -> None:
    with refused(403, "Forbidden") as said:
        space.create(pod("loose", spec=change))

    assert said["message"] == f'pods "loose" is forbidden: violates PodSecurity "restricted:latest": {words}'


def test_privileges_and_added_capabilities_are_named(space: Space) -> None:
    context = {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
    }

    with refused(403, "Forbidden") as said:
        space.create(pod("loose", securityContext=context))

    words = 'unrestricted capabilities (container "main" must not include "SYS_ADMIN" in securityContext.capabilities.add)'
    assert said["message"].endswith(f'restricted:latest": {words}')


def test_a_service_account_that_is_not_there_is_named(space: Space) -> None:
    with refused(403, "Forbidden") as said:
        space.create(pod("x", spec={"serviceAccountName": "nobody"}))

    assert said["message"] == (
        f'pods "x" is forbidden: error looking up service account {space.name}/nobody: serviceaccount "nobody" not found'
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (pod("a_b"), 'metadata.name: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of'),
        (
            pod("b", spec={"restartPolicy": "Sometimes"}),
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
        ),
        (
            pod("b", resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            pod("b", volumeMounts=[{"name": "nowhere", "mountPath": "/x"}]),
            'spec.containers[0].volumeMounts[0].name: Not found: "nowhere"',
        ),
        (
            pod("b", spec={"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (pod("b", image=""), "spec.containers[0].image: Required value"),
    ],
)
def test_a_pod_that_makes_no_sense_is_told_what(space: Space, body: dict[str, Any], words: str) -> None:
    with refused(422, "Invalid") as said:
        space.create(body)

    assert words in said["message"]
    assert words.partition(":")[0] in [cause["field"] for cause in said["details"]["causes"]]


def test_unknown_fields_are_dropped_unless_the_client_is_strict(space: Space) -> None:
    body = pod("odd")
    body["spec"]["foo"] = 1

    made, _, headers = space.core.create_namespaced_pod_with_http_info(space.name, body)
    with refused(400, "BadRequest") as said:
        space.create(pod("odder") | {"bar": 2}, field_validation="Strict")

    assert headers["Warning"] == '299 - "unknown field \\"spec.foo\\""'
    assert said["message"].endswith('strict decoding error: unknown field "bar"')
    space.core.delete_namespaced_pod(made.metadata.name, space.name, grace_period_seconds=0)


def test_a_wrong_type_is_refused(space: Space) -> None:
    with refused(400, "BadRequest") as said:
        space.create(pod("x", spec={"nodeName": 5}))

    assert (
        'Pod in version "v1" cannot be handled as a Pod' in said["message"] and "nodeName" in said["message"]
    )


def test_quantities_are_rewritten_and_defaults_filled_in(space: Space) -> None:
    resources = {
        "limits": {"cpu": "0.5", "memory": "1024Mi", "ephemeral-storage": "1000000"},
        "requests": {"cpu": 0.25},
    }

    made = space.create(pod("defaults", resources=resources), dry_run="All")

    spec = made["spec"]
    assert spec["containers"][0]["resources"] == {
        "limits": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1M"},
        "requests": {"cpu": "250m", "memory": "1Gi", "ephemeral-storage": "1M"},
    }
    assert (spec["serviceAccountName"], spec["enableServiceLinks"], spec["priority"]) == ("default", True, 0)
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert {one["key"]: one["tolerationSeconds"] for one in spec["tolerations"]} == {
        "node.kubernetes.io/not-ready": 300,
        "node.kubernetes.io/unreachable": 300,
    }
    assert made["status"] == {"phase": "Pending", "qosClass": "Burstable"}
    assert space.pod("defaults") is None, "it was only tried"


def told_limits(space: Space) -> dict[str, str]:
    """What the quota's controller has noted of the limits so far."""
    status = space.core.read_namespaced_resource_quota("few", space.name).status
    return (status.hard if status else None) or {}


def test_a_quota_refuses_with_what_was_asked_used_and_allowed(space: Space) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"count/secrets": "0", "requests.cpu": "1"}}}
    space.core.create_namespaced_resource_quota(space.name, quota)
    try:
        until(lambda: "requests.cpu" in told_limits(space), what="the quota's status")

        with refused(403, "Forbidden") as unsaid:
            space.create(pod("q"))
        with refused(403, "Forbidden") as said:
            space.create(pod("q", resources={"requests": {"cpu": "1500m"}}))

        assert (
            unsaid["message"]
            == 'pods "q" is forbidden: failed quota: few: must specify requests.cpu for: main'
        )
        assert said["message"] == (
            'pods "q" is forbidden: exceeded quota: few, requested: requests.cpu=1500m, used: requests.cpu=0, '
            "limited: requests.cpu=1"
        )
    finally:
        space.core.delete_namespaced_resource_quota("few", space.name)


def test_a_precondition_protects_what_was_made_anew(space: Space) -> None:
    uid = space.core.create_namespaced_secret(space.name, secret("mine")).metadata.uid
    other = "00000000-0000-0000-0000-000000000000"

    with refused(409, "Conflict") as said:
        space.core.delete_namespaced_secret("mine", space.name, body={"preconditions": {"uid": other}})
    gone = space.core.delete_namespaced_secret("mine", space.name, body={"preconditions": {"uid": uid}})

    assert (
        f"the UID in the precondition ({other}) does not match the UID in record ({uid})" in said["message"]
    )
    assert gone.status == "Success" and gone.details.uid == uid


@pytest.mark.parametrize("kind", ["merge", "strategic", "json"])
def test_labels_are_patched_in_three_ways(space: Space, kind: str) -> None:
    name = f"patched-{kind}"
    space.core.create_namespaced_secret(space.name, secret(name, labels={"a": "1", "b": "2"}))
    media, body = {
        "merge": ("application/merge-patch+json", {"metadata": {"labels": {"a": None, "c": "3"}}}),
        "strategic": (
            "application/strategic-merge-patch+json",
            {"metadata": {"labels": {"a": None, "c": "3"}}},
        ),
        "json": (
            "application/json-patch+json",
            [
                {"op": "remove", "path": "/metadata/labels/a"},
                {"op": "add", "path": "/metadata/labels/c", "value": "3"},
            ],
        ),
    }[kind]

    patched = space.core.patch_namespaced_secret(name, space.name, body, _content_type=media)

    assert patched.metadata.labels == {"b": "2", "c": "3"}
    assert patched.data == {"token": "dA=="}


def test_a_patch_that_does_not_fit_is_refused(space: Space) -> None:
    space.core.create_namespaced_secret(space.name, secret("stubborn"))
    test = [{"op": "test", "path": "/type", "value": "other"}]

    with refused(422, "Invalid") as said:
        space.core.patch_namespaced_secret(
            "stubborn", space.name, test, _content_type="application/json-patch+json"
        )
    assert said["message"] == "the server rejected our request due to an error in our request"

    with refused(409, "Conflict") as said:
        space.core.patch_namespaced_secret("stubborn", space.name, {"metadata": {"resourceVersion": "1"}})
    assert "the object has been modified" in said["message"]


def test_what_a_pod_owns_goes_with_it(space: Space) -> None:
    owner = space.create(pod("owner", spec={"nodeSelector": {"no": "where"}}))["metadata"]
    ref = {"apiVersion": "v1", "kind": "Pod", "name": "owner", "uid": owner["uid"]}
    space.core.create_namespaced_secret(space.name, secret("owned"))
    space.core.create_namespaced_secret(space.name, secret("free"))
    space.core.patch_namespaced_secret("owned", space.name, {"metadata": {"ownerReferences": [ref]}})

    space.core.delete_namespaced_pod("owner", space.name)

    def names() -> set[str]:
        return {one.metadata.name for one in space.core.list_namespaced_secret(space.name).items}

    until(lambda: "owned" not in names(), what="the owned Secret's end")
    assert "free" in names()


def test_a_list_comes_in_pages_and_without_contents_for_who_wants_that(space: Space) -> None:
    for number in range(5):
        space.core.create_namespaced_secret(space.name, secret(f"page-{number}", labels={"paged": "yes"}))

    first = space.core.list_namespaced_secret(space.name, label_selector="paged=yes", limit=2)
    rest = space.core.list_namespaced_secret(
        space.name, label_selector="paged=yes", limit=10, _continue=first.metadata._continue
    )
    whole = json.loads(
        raw(
            space,
            "/secrets?labelSelector=paged%3Dyes",
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        )
    )

    names = [one.metadata.name for one in first.items + rest.items]
    assert names == [f"page-{number}" for number in range(5)]
    assert len(first.items) == 2 and not rest.metadata._continue
    assert whole["kind"] == "PartialObjectMetadataList" and len(whole["items"]) == 5
    assert not any("data" in one for one in whole["items"])


def test_selectors_select_and_wrong_ones_are_refused(space: Space) -> None:
    space.core.create_namespaced_secret(space.name, secret("sel-1", labels={"tier": "one", "x": "1"}))
    space.core.create_namespaced_secret(space.name, secret("sel-2", labels={"tier": "two"}))

    def names(selector: str) -> list[str]:
        return [
            one.metadata.name
            for one in space.core.list_namespaced_secret(space.name, label_selector=selector).items
        ]

    assert names("tier in (one, two),x") == ["sel-1"]
    assert names("tier,!x") == ["sel-2"]
    assert names("tier notin (one),tier") == ["sel-2"]
    assert names("tier!=one,tier") == ["sel-2"]
    with refused(400, "BadRequest"):
        space.core.list_namespaced_secret(space.name, field_selector="data.token=t")


def test_a_watch_tells_what_changes_and_ends_when_its_time_is_over(space: Space) -> None:
    since = space.core.list_namespaced_secret(space.name).metadata.resource_version
    space.core.create_namespaced_secret(space.name, secret("seen", labels={"w": "1"}))
    space.core.patch_namespaced_secret("seen", space.name, {"metadata": {"labels": {"w": "2"}}})
    space.core.patch_namespaced_secret("seen", space.name, {"metadata": {"labels": {"w": None}}})
    began = time.monotonic()

    events = [
        (
            event["type"],
            event["raw_object"]["metadata"].get("labels", {}).get("w")
            if event["type"] != "BOOKMARK"
            else None,
        )
        for event in watch.Watch().stream(
            space.core.list_namespaced_secret,
            space.name,
            label_selector="w",
            resource_version=since,
            timeout_seconds=4,
            allow_watch_bookmarks=True,
        )
    ]

    assert 2 < time.monotonic() - began < 10
    assert [kind for kind, _ in events][:3] == ["ADDED", "MODIFIED", "DELETED"], "it left the selection"
    assert [label for _, label in events][:2] == ["1", "2"]
    assert {kind for kind, _ in events[3:]} <= {"BOOKMARK"}


def test_who_has_no_right_is_told_which(cluster: Cluster) -> None:
    from support.clusters import talking

    with talking(cluster.control_plane) as ours:
        with refused(403, "Forbidden") as said:
            ours.list_namespaced_secret("default")
        with refused(403, "Forbidden") as named:
            ours.read_namespaced_secret("x", WORKERS)
        allowed = {verb: _may(ours, verb) for verb in ("create", "patch", "update")}

    user = said["message"].partition('User "')[2].partition('"')[0]
    assert user.startswith("system:serviceaccount:hodei-jobs-workers:")
    assert said["message"] == (
        f'secrets is forbidden: User "{user}" cannot list resource "secrets" in API group "" in the namespace "default"'
    )
    assert named["message"] == (
        f'secrets "x" is forbidden: User "{user}" cannot get resource "secrets" in API group "" in the namespace "{WORKERS}"'
    )
    assert allowed == {"create": True, "patch": False, "update": False}


def _may(core: client.CoreV1Api, verb: str) -> bool:
    attributes = {"verb": verb, "resource": "pods", "namespace": WORKERS}
    review = {"spec": {"resourceAttributes": attributes}}
    answer = client.AuthorizationV1Api(core.api_client).create_self_subject_access_review(review)
    return bool(answer.status.allowed)


def raw(space: Space, path: str, accept: str) -> str:
    api = space.core.api_client
    found = api.call_api(
        f"/api/v1/namespaces/{space.name}{path}",
        "GET",
        header_params={"Accept": accept},
        auth_settings=["BearerToken"],
        _preload_content=False,
    )
    return str(found.data.decode())
