"""How pods live and die, as scheduler and kubelet write it down. On a real cluster these tests hold the stand-in to it."""

from __future__ import annotations

import re
import threading
import time

import pytest
from place import Space, pod, refused, state_of
from support.clusters import Cluster
from support.waiting import until

pytestmark = pytest.mark.docker
ROOT_IMAGE = "hodei-base:bookworm"

READ_ONLY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def test_a_pod_runs_and_its_log_can_be_followed(space: Space) -> None:
    space.create(pod("short", "echo one; sleep 1; echo two >&2"))
    space.running("short")

    log = space.log("short", follow=True)
    ended = space.ended("short")

    assert sorted(log.split()) == ["one", "two"]
    state = state_of(ended)["terminated"]
    assert (ended["status"]["phase"], state["exitCode"], state["reason"]) == ("Succeeded", 0, "Completed")
    assert conditions(ended)["Ready"] == ("False", "PodCompleted")
    assert conditions(ended)["PodScheduled"][0] == "True"
    assert {reason for reason, _ in space.events("short")} >= {"Scheduled", "Pulled", "Created", "Started"}


def test_a_pod_that_fails_says_its_code_and_its_last_words(space: Space) -> None:
    space.create(pod("bad", "echo it broke > /dev/termination-log; exit 3"))

    ended = space.ended("bad")

    state = state_of(ended)["terminated"]
    assert (ended["status"]["phase"], state["exitCode"], state["reason"]) == ("Failed", 3, "Error")
    assert state["message"] == "it broke\n"


def test_a_pod_is_confined_and_finds_what_it_was_given(space: Space) -> None:
    space.core.create_namespaced_secret(
        space.name, {"metadata": {"name": "given"}, "stringData": {"token": "s3cret"}}
    )
    line = "; ".join(
        [
            "id -u",
            "id -g",
            "hostname",
            "pwd",
            'echo "$TOKEN $POD_NAME $TWICE"',
            "cat /secret/token; echo",
            "touch /nowhere 2>/dev/null || echo read-only",
            "touch /tmp/here && echo writable",
            "grep CapEff /proc/1/status",
            "grep NoNewPrivs /proc/1/status",
            "grep Seccomp: /proc/1/status",
            "cat /from-init/word",
            "env | grep -c '^KUBERNETES_SERVICE_HOST='",
        ]
    )
    body = pod(
        "confined",
        line,
        securityContext=READ_ONLY,
        workingDir="/tmp",
        env=[
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "given", "key": "token"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "TWICE", "value": "$(TOKEN)-$$(TOKEN)-$(NOBODY)"},
        ],
        volumeMounts=[
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "given", "mountPath": "/secret"},
            {"name": "shared", "mountPath": "/from-init", "readOnly": True},
        ],
        spec={
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "given", "secret": {"secretName": "given"}},
                {"name": "shared", "emptyDir": {}},
            ],
            "initContainers": [
                pod(
                    "",
                    "echo from init > /shared/word",
                    volumeMounts=[{"name": "shared", "mountPath": "/shared"}],
                )["spec"]["containers"][0]
                | {"name": "first"}
            ],
        },
    )
    space.create(body)

    ended = space.ended("confined")

    log = space.log("confined").split("\n")
    assert log[:8] == [
        "10001",
        "10001",
        "confined",
        "/tmp",
        "s3cret confined s3cret-$(TOKEN)-$(NOBODY)",
        "s3cret",
        "read-only",
        "writable",
    ]
    assert log[8].split()[1] == "0000000000000000" and log[9].split()[1] == "1" and log[10].split()[1] == "2"
    assert log[11:13] == ["from init", "1"]
    assert ended["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"


def test_an_init_container_that_fails_ends_the_pod(space: Space) -> None:
    first = pod("", "exit 7")["spec"]["containers"][0] | {"name": "first"}

    space.create(pod("no-start", spec={"initContainers": [first]}))

    ended = space.ended("no-start")
    assert ended["status"]["phase"] == "Failed"
    assert ended["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
    assert state_of(ended)["waiting"]["reason"] == "PodInitializing"
    assert conditions(ended)["Initialized"] == ("False", "ContainersNotInitialized")


def test_who_uses_more_memory_than_the_limit_is_killed(space: Space) -> None:
    hog = "exec python3 -c 'x = bytearray(200 << 20)'"

    space.create(pod("hog", hog, resources={"limits": {"memory": "40Mi"}}))

    state = state_of(space.ended("hog"))["terminated"]
    assert (state["exitCode"], state["reason"]) == (137, "OOMKilled")


def test_an_image_that_cannot_be_had_is_said_within_seconds(space: Space) -> None:
    began = time.monotonic()
    space.create(pod("no-image", image="127.0.0.1:9/hodei/nothing:1"))

    seen = space.in_state("no-image", "waiting", "ErrImagePull")

    assert time.monotonic() - began < 10
    message = state_of(seen)["waiting"]["message"]
    assert 'failed to resolve reference "127.0.0.1:9/hodei/nothing:1"' in message
    assert seen["status"]["phase"] == "Pending"
    with refused(400, "BadRequest") as said:
        space.core.read_namespaced_pod_log("no-image", space.name)
    assert said["message"] in {
        f'container "main" in pod "no-image" is waiting to start: {why}'
        for why in (
            "trying and failing to pull image",
            "image can't be pulled",
        )  # the latter while it backs off
    }
    assert any(
        reason == "Failed" and "Failed to pull image" in words for reason, words in space.events("no-image")
    )
    space.core.delete_namespaced_pod("no-image", space.name, grace_period_seconds=1)
    space.gone("no-image")


@pytest.mark.parametrize(
    ("container", "reason", "words"),
    [
        (
            {"imagePullPolicy": "Never", "image": "hodei-none:1"},
            "ErrImageNeverPull",
            "is not present with pull policy of Never",
        ),
        ({"image": "Hodei:::x"}, "InvalidImageName", "invalid reference format"),
        (
            {"env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "nope", "key": "k"}}}]},
            "CreateContainerConfigError",
            'secret "nope" not found',
        ),
        (
            {"securityContext": READ_ONLY | {"runAsUser": None}},
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
        ),
    ],
)
def test_a_container_that_cannot_be_made_waits_and_says_why(
    space: Space, cluster: Cluster, container: dict[str, object], reason: str, words: str
) -> None:
    name = f"waits-{reason.lower()}-{len(words)}"
    body = pod(name, **container)
    if "root" in words:
        del body["spec"]["securityContext"]["runAsUser"], body["spec"]["securityContext"]["runAsGroup"]
        body["spec"]["containers"][0]["image"] = ROOT_IMAGE
        cluster.load(ROOT_IMAGE)

    space.create(body)

    assert words in state_of(space.in_state(name, "waiting", reason))["waiting"]["message"]
    space.core.delete_namespaced_pod(name, space.name, grace_period_seconds=1)


def test_a_command_that_does_not_exist_is_a_start_error(space: Space) -> None:
    space.create(pod("no-command", command=["/no/such"]))

    ended = space.ended("no-command")

    state = state_of(ended)["terminated"]
    assert (ended["status"]["phase"], state["exitCode"], state["reason"]) == ("Failed", 128, "StartError")
    assert state["message"].startswith("failed to create containerd task") and "/no/such" in state["message"]
    assert state["startedAt"] == "1970-01-01T00:00:00+00:00"


def test_a_pod_that_no_node_can_take_says_so_in_the_schedulers_words(space: Space) -> None:
    space.create(pod("huge", resources={"requests": {"cpu": "1000"}}))
    space.create(pod("picky", spec={"nodeSelector": {"no": "where"}}))

    def said(name: str) -> tuple[str, str] | None:
        found = space.pod(name)
        scheduled = {
            one["type"]: one for one in (found or {"status": {}})["status"].get("conditions", ())
        }.get("PodScheduled")
        return (scheduled["reason"], scheduled["message"]) if scheduled else None

    huge = until(lambda: said("huge"), what="the scheduler's word")
    picky = until(lambda: said("picky"), what="the scheduler's word")

    assert huge and huge[0] == "Unschedulable"
    assert re.fullmatch(
        r"0/(\d+) nodes are available: \1 Insufficient cpu\. (no new claims to deallocate, )?preemption: 0/\1 nodes are "
        r"available: \1 (No preemption victims found for incoming pod|Preemption is not helpful for scheduling)\.",
        huge[1],
    )
    assert picky and picky[0] == "Unschedulable"
    assert re.fullmatch(
        r"0/(\d+) nodes are available: \1 node\(s\) didn't match Pod's node affinity/selector\. "
        r"(no new claims to deallocate, )?preemption: 0/\1 nodes are available: \1 Preemption is not helpful for scheduling\.",
        picky[1],
    )
    found = space.pod("huge")
    assert found and "containerStatuses" not in found["status"] and "startTime" not in found["status"]
    space.core.delete_namespaced_pod("huge", space.name)
    assert space.pod("huge") is None, "nothing runs, so nothing is waited for"


def test_a_pod_that_is_too_old_is_ended(space: Space) -> None:
    space.create(pod("old", "trap 'exit 9' TERM; sleep 60 & wait", spec={"activeDeadlineSeconds": 2}))

    ended = space.ended("old")

    assert (ended["status"]["reason"], ended["status"]["message"]) == (
        "DeadlineExceeded",
        "Pod was active on the node longer than the specified deadline",
    )
    assert state_of(ended)["terminated"]["exitCode"] == 9


def test_a_deleted_pod_gets_term_and_goes_when_it_has_ended(space: Space) -> None:
    space.create(pod("leaver", "trap 'echo bye; exit 0' TERM; echo up; sleep 60 & wait"))
    space.running("leaver")
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.append(space.log("leaver", follow=True)))
    reader.start()

    answer = space.core.delete_namespaced_pod("leaver", space.name, grace_period_seconds=20)

    assert answer.metadata.deletion_grace_period_seconds == 20
    with refused(409, "AlreadyExists") as said:
        space.create(pod("leaver"))
    assert said["message"] == 'object is being deleted: pods "leaver" already exists'
    space.gone("leaver")
    reader.join(20)
    assert log == ["up\nbye\n"]


def test_a_process_that_ignores_term_is_killed_after_its_grace_and_the_pod_stays_as_long(
    space: Space,
) -> None:
    space.create(pod("deaf", "trap '' TERM; echo up; while :; do sleep 0.2; done"))
    space.running("deaf")
    until(lambda: "up" in space.log("deaf"), what="the trap")
    began = time.monotonic()

    space.core.delete_namespaced_pod("deaf", space.name, grace_period_seconds=1)
    space.gone("deaf")

    assert time.monotonic() - began > 1.8, "the kubelet gives at least two seconds"


def test_an_eviction_is_a_deletion_with_a_condition(space: Space) -> None:
    space.create(pod("evicted", "trap '' TERM; sleep 60", spec={"terminationGracePeriodSeconds": 3}))
    space.running("evicted")

    space.core.create_namespaced_pod_eviction("evicted", space.name, {"metadata": {"name": "evicted"}})

    found = space.pod("evicted")
    assert found and found["metadata"]["deletionTimestamp"]
    assert conditions(found)["DisruptionTarget"] == ("True", "EvictionByEvictionAPI")
    space.gone("evicted")


def test_a_pod_keeps_its_spec_but_for_a_shorter_deadline(space: Space) -> None:
    space.create(pod("fixed", "sleep 30", spec={"activeDeadlineSeconds": 600}))

    with refused(422, "Invalid") as said:
        space.core.patch_namespaced_pod("fixed", space.name, {"spec": {"enableServiceLinks": False}})
    patched = space.core.patch_namespaced_pod("fixed", space.name, {"spec": {"activeDeadlineSeconds": 500}})

    assert "pod updates may not change fields other than `spec.containers[*].image`" in said["message"]
    assert patched.spec.active_deadline_seconds == 500
    space.core.delete_namespaced_pod("fixed", space.name, grace_period_seconds=0)


def conditions(found: dict[str, dict[str, object]]) -> dict[str, tuple[str, str | None]]:
    listed = found["status"].get("conditions") or ()
    return {one["type"]: (one["status"], one.get("reason")) for one in listed}  # type: ignore[attr-defined, index]
