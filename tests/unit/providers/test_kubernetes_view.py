"""What a pod's status means: each case as Kubernetes 1.32 with containerd showed it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hodei.providers.contract import ResourceState
from hodei.providers.kubernetes import failures, view
from hodei.providers.kubernetes.events import last_warning
from hodei.providers.kubernetes.watch import essential

WORKER = UUID("00000000-0000-7000-8000-000000000001")
NOW = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
REGISTRY = (
    'failed to pull and unpack image "docker.io/library/no-such:1": failed to resolve reference: failed to do request: '
    "dial tcp: lookup registry-1.docker.io on 10.255.255.53:53: no such host"
)
SCHEDULER = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found."
RUNTIME_AWAY = [
    "rpc error: code = Unavailable desc = error reading from server: EOF",
    'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: '
    'dial unix /run/containerd/containerd.sock: connect: connection refused"',
    "failed to start shim: connection refused",
    "rpc error: code = Canceled desc = grpc: the client connection is closing: transport is closing",
    "rpc error: code = DeadlineExceeded desc = stream terminated",
]


PULL_FAILED = view.Said(reason="Failed", message=f'Failed to pull image "no-such:1": {REGISTRY}')


def at(seconds_ago: float) -> str:
    return (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def a_pod(
    phase: str = "Pending",
    state: dict[str, Any] | None = None,
    *,
    init: dict[str, Any] | None = None,
    conditions: dict[str, Any] | None = None,
    deleted_s: float | None = None,
    node: str | None = "node-1",
    **status: Any,
) -> dict[str, Any]:
    metadata = {"name": f"hodei-worker-{WORKER}", "uid": "u1", "creationTimestamp": at(10)}
    if deleted_s is not None:
        metadata["deletionTimestamp"] = at(deleted_s)
    document: dict[str, Any] = {
        "metadata": metadata,
        "spec": {
            "nodeName": node,
            "activeDeadlineSeconds": 60,
            "initContainers": [{"name": "agent", "image": "hodei-jobs-worker:latest"}],
            "containers": [{"name": "worker", "image": "no-such:1"}],
        },
        "status": {"phase": phase, **status},
    }
    if state is not None:
        document["status"]["containerStatuses"] = [{"name": "worker", "state": state}]
    if init is not None:
        document["status"]["initContainerStatuses"] = [{"name": "agent", "state": init}]
    document["status"]["conditions"] = [{"type": kind, **found} for kind, found in (conditions or {}).items()]
    return document


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def terminated(exit_code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "message": message}}


RUNNING = {"running": {"startedAt": at(5)}}
UNSCHEDULABLE = {
    "PodScheduled": {
        "status": "False",
        "reason": "Unschedulable",
        "message": SCHEDULER,
        "lastTransitionTime": at(10),
    }
}


def seen(pod: dict[str, Any], **options: Any) -> Any:
    whole = view.from_pod(WORKER, pod, now=NOW, **options)
    assert view.from_pod(WORKER, essential(pod), now=NOW, **options) == whole, "the watch keeps too little"
    return whole


@pytest.mark.parametrize(
    ("pod", "state"),
    [
        (a_pod(), ResourceState.STARTING),
        (a_pod(state=waiting("ContainerCreating")), ResourceState.STARTING),
        (a_pod(state=waiting("PodInitializing"), init=RUNNING), ResourceState.STARTING),
        (a_pod(node=None), ResourceState.STARTING),
        (a_pod("Running", RUNNING), ResourceState.RUNNING),
        (a_pod("Succeeded", terminated(0, "Completed")), ResourceState.EXITED),
        (a_pod("Running", terminated(0, "Completed")), ResourceState.EXITED),
    ],
)
def test_a_pod_that_has_no_trouble(pod: dict[str, Any], state: ResourceState) -> None:
    found = seen(pod)

    assert (found.state, found.failure, found.waiting) == (state, None, None)
    assert found.resource_id == f"hodei-worker-{WORKER}"


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        ({}, "ERR_2006"),
        ({"DisruptionTarget": {"status": "True", "reason": "EvictionByEvictionAPI"}}, "ERR_3009"),
    ],
)
def test_a_worker_that_is_being_ended_by_others_runs_still_and_says_why(
    conditions: dict[str, Any], code: str
) -> None:
    found = seen(a_pod("Running", RUNNING, conditions=conditions, deleted_s=-20))

    assert (found.state, found.failure.code) == (ResourceState.RUNNING, code)


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        ({}, "ERR_2006"),
        ({"DisruptionTarget": {"status": "True", "reason": "PreemptionByScheduler"}}, "ERR_3009"),
        ({"DisruptionTarget": {"status": "True", "reason": "DeletionByTaintManager"}}, "ERR_3010"),
    ],
)
@pytest.mark.parametrize(
    "state",
    [
        None,
        waiting("ContainerCreating"),
        waiting("CreateContainerError", "context canceled"),
    ],
    ids=["nothing yet", "being made", "cut short"],
)
def test_a_worker_that_others_end_before_it_ever_ran_comes_up_no_more_and_says_why(
    state: dict[str, Any] | None, conditions: dict[str, Any], code: str
) -> None:
    found = seen(a_pod(state=state, conditions=conditions, deleted_s=-20))

    assert (found.state, found.failure.code, found.waiting) == (ResourceState.STARTING, code, None)


def test_the_container_is_believed_before_the_phase() -> None:
    found = seen(a_pod("Pending", terminated(3)))

    assert (found.state, found.exit_code) == (ResourceState.EXITED, 3)


@pytest.mark.parametrize(
    ("pod", "code", "words"),
    [
        (a_pod(state=waiting("ErrImagePull", REGISTRY)), "ERR_3001", "no such host"),
        (
            a_pod(
                state=waiting(
                    "ImagePullBackOff", f'Back-off pulling image "no-such:1": ErrImagePull: {REGISTRY}'
                )
            ),
            "ERR_3001",
            "no such host",
        ),
        (
            a_pod(state=waiting("ErrImageNeverPull", "Container image is not present")),
            "ERR_3001",
            "not present",
        ),
        (a_pod(state=waiting("InvalidImageName", "couldn't parse image name")), "ERR_3001", "couldn't parse"),
        (
            a_pod(init=waiting("ErrImagePull", "not found")),
            "ERR_3001",
            "The worker image hodei-jobs-worker:latest",
        ),
        (
            a_pod(state=waiting("CreateContainerConfigError", 'secret "x" not found')),
            "ERR_3007",
            "token could not be handed over",
        ),
        (
            a_pod(state=waiting("CreateContainerConfigError", "container has runAsNonRoot")),
            "ERR_1010",
            "container has runAsNonRoot",
        ),
    ],
)
def test_a_pod_that_will_not_start_says_why(pod: dict[str, Any], code: str, words: str) -> None:
    found = seen(pod)

    assert found.state is ResourceState.STARTING
    assert found.failure.code == code and words in found.failure.message


def test_a_back_off_that_names_no_cause_is_explained_by_an_event() -> None:
    pod = a_pod(state=waiting("ImagePullBackOff", 'Back-off pulling image "no-such:1"'))

    assert view.lacks_words(pod)
    assert "no such host" in seen(pod, said=PULL_FAILED).failure.message
    assert not view.lacks_words(a_pod(state=waiting("ErrImagePull", REGISTRY)))


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("CreateContainerConfigError", "failed to sync secret cache: timed out"),
        *(
            (reason, message)
            for reason in ("CreateContainerError", "RunContainerError", "CreatePodSandboxError")
            for message in RUNTIME_AWAY
        ),
    ],
)
def test_what_the_kubelet_mends_by_itself_is_waited_for(reason: str, message: str) -> None:
    found = seen(a_pod(state=waiting(reason, message)))

    assert found.failure is None
    assert found.waiting.code == "ERR_3007" and "tries again" in found.waiting.message


@pytest.mark.parametrize("message", RUNTIME_AWAY)
def test_a_container_that_ended_because_its_nodes_runtime_was_away_is_not_the_users_mistake(
    message: str,
) -> None:
    assert seen(a_pod("Failed", terminated(128, "StartError", message))).failure.code == "ERR_3007"


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (a_pod(state=waiting("ErrImagePull", "pull QPS exceeded")), None),
        (a_pod(state=waiting("ErrImagePull", RUNTIME_AWAY[0])), None),
        (a_pod(state=waiting("ImageInspectError", RUNTIME_AWAY[1])), None),
        (
            a_pod(
                state=waiting(
                    "ImagePullBackOff", 'Back-off pulling image "no-such:1": ErrImagePull: pull QPS exceeded'
                )
            ),
            None,
        ),
        (
            a_pod(init=waiting("PodInitializing"), conditions={"PodScheduled": {"status": "True"}}),
            view.Said(reason="Failed", message='Failed to pull image "no-such:1": pull QPS exceeded'),
        ),
    ],
)
def test_a_kubelet_that_cannot_pull_at_the_moment_is_waited_for(
    pod: dict[str, Any], said: view.Said | None
) -> None:
    found = seen(pod, said=said)

    assert found.failure is None
    assert found.waiting.code == "ERR_3007" and "pulls no-such:1 later" in found.waiting.message


def test_a_mishap_of_the_schedulers_own_is_no_reason_to_fail() -> None:
    mishap = UNSCHEDULABLE["PodScheduled"] | {"reason": "SchedulerError", "message": "binding rejected"}

    found = seen(a_pod(conditions={"PodScheduled": mishap}, node=None), unschedulable_s=0)

    assert found.failure is None and "binding rejected" in found.waiting.message


@pytest.mark.parametrize(("patience_s", "over"), [(None, False), (11.0, False), (10.0, True), (0.0, True)])
def test_an_unschedulable_pod_waits_as_long_as_its_provider_lets_it(
    patience_s: float | None, *, over: bool
) -> None:
    found = seen(a_pod(conditions=UNSCHEDULABLE, node=None), unschedulable_s=patience_s)

    said = found.failure if over else found.waiting
    assert said.code == "ERR_3008" and SCHEDULER in said.message
    assert (found.failure is None) is not over


def test_a_pod_that_does_not_come_up_says_what_its_events_say() -> None:
    pod = a_pod(state=waiting("ContainerCreating"), conditions={"PodScheduled": {"status": "True"}})
    said = view.Said(reason="FailedCreatePodSandBox", message="network is not ready")

    assert view.lacks_words(pod) and not view.lacks_words(a_pod(node=None))
    assert "network is not ready" in seen(pod, said=said).waiting.message


@pytest.mark.parametrize(
    "message",
    [
        f'Failed to pull image "no-such:1": {REGISTRY}',
        'Container image "no-such:1" is not present with pull policy of Never',
        'Failed to apply default image tag "no-such:1": invalid reference format',
    ],
)
def test_an_event_tells_of_an_image_long_before_the_status_of_a_pod_with_init_containers(
    message: str,
) -> None:
    pod = a_pod(state=waiting("PodInitializing"), init=terminated(0, "Completed"))

    failure = seen(pod, said=view.Said(reason="Failed", message=message)).failure

    assert failure.code == "ERR_3001" and failure.message.startswith("The image no-such:1 cannot be pulled")


@pytest.mark.parametrize(
    ("pod", "code", "words"),
    [
        (a_pod("Failed", terminated(137, "OOMKilled")), "ERR_1013", "more memory"),
        (a_pod("Failed", terminated(137)), "ERR_2003", "killed"),
        (a_pod("Failed", terminated(70)), "ERR_1010", "no Python 3.8"),
        (a_pod("Failed", terminated(3)), "ERR_2005", "token"),
        (a_pod("Failed", terminated(5)), "ERR_3003", "lease"),
        (a_pod("Failed", terminated(1)), "ERR_2003", "exit code 1"),
        (a_pod("Failed", terminated(137, "ContainerStatusUnknown")), "ERR_3010", "lost sight"),
        (
            a_pod("Failed", terminated(128, "StartError", 'exec: "/bin/sh": stat /bin/sh: no such file')),
            "ERR_1010",
            "no /bin/sh",
        ),
        (
            a_pod("Failed", reason="Evicted", message="The node was low on resource: memory."),
            "ERR_3009",
            "low on",
        ),
        (a_pod("Failed", terminated(137), reason="Evicted", message="low"), "ERR_3009", "low"),
        (
            a_pod("Failed", reason="OutOfcpu", message="Node didn't have enough resource"),
            "ERR_3002",
            "OutOfcpu",
        ),
        (a_pod("Failed", reason="NodeShutdown", message="Pod was terminated"), "ERR_3010", "NodeShutdown"),
        (a_pod("Failed", terminated(137), reason="DeadlineExceeded"), "ERR_1005", "activeDeadlineSeconds 60"),
        (a_pod("Failed", reason="DeadlineExceeded"), "ERR_3005", "activeDeadlineSeconds 60"),
        (a_pod("Failed", init=terminated(1, message="cp: no space")), "ERR_3007", "cp: no space"),
        (a_pod("Failed", init=terminated(137, "OOMKilled")), "ERR_1013", "bring the agent"),
        (a_pod("Failed"), "ERR_3007", "before its worker ran"),
        (
            a_pod(
                "Failed",
                terminated(137),
                conditions={"DisruptionTarget": {"status": "True", "reason": "PreemptionByScheduler"}},
            ),
            "ERR_3009",
            "PreemptionByScheduler",
        ),
    ],
)
def test_a_pod_that_ended_says_why(pod: dict[str, Any], code: str, words: str) -> None:
    found = seen(pod)

    assert found.state is ResourceState.EXITED
    assert found.failure.code == code and words in found.failure.message


def test_a_child_that_was_killed_for_memory_is_the_agents_to_report() -> None:
    """With cgroup v1 containerd says OOMKilled of the whole container, though its first process ended in peace."""
    found = seen(a_pod("Succeeded", terminated(0, "OOMKilled")))

    assert (found.state, found.exit_code, found.failure) == (ResourceState.EXITED, 0, None)


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(
            "Running",
            RUNNING,
            conditions={"Ready": {"status": "False"}, "ContainersReady": {"status": "True"}},
        ),
        a_pod("Running", RUNNING, deleted_s=view.OVERDUE_S + 1),
        a_pod("Running", RUNNING, reason="NodeLost"),
        a_pod("Unknown", RUNNING),
    ],
)
def test_a_node_that_does_not_answer_leaves_it_open_whether_the_worker_runs(pod: dict[str, Any]) -> None:
    found = seen(pod)

    assert found.state is ResourceState.LOST
    assert found.failure.code == "ERR_3010" and "node-1" in found.failure.message


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(
            "Running",
            RUNNING,
            conditions={"Ready": {"status": "False"}, "ContainersReady": {"status": "False"}},
        ),
        a_pod("Running", RUNNING, deleted_s=view.OVERDUE_S - 1),
        a_pod(state=waiting("ContainerCreating"), deleted_s=view.OVERDUE_S + 60),
    ],
    ids=["not ready by its kubelet's own word", "still in its grace period", "its kubelet pulls the image"],
)
def test_a_node_that_answers_is_not_lost(pod: dict[str, Any]) -> None:
    assert seen(pod).state is not ResourceState.LOST


@pytest.mark.parametrize(
    ("pod", "code", "words"),
    [
        (a_pod("Running", RUNNING), "ERR_2006", "was deleted from node node-1"),
        (a_pod("Succeeded", terminated(0)), "ERR_2006", "was deleted"),
        (a_pod("Failed", terminated(137, "OOMKilled")), "ERR_1013", "memory"),
        (
            a_pod(
                "Running",
                conditions={"DisruptionTarget": {"status": "True", "reason": "EvictionByEvictionAPI"}},
            ),
            "ERR_3009",
            "EvictionByEvictionAPI",
        ),
        (
            a_pod(
                "Running",
                conditions={"DisruptionTarget": {"status": "True", "reason": "DeletionByTaintManager"}},
            ),
            "ERR_3010",
            "node-1",
        ),
    ],
)
def test_the_last_words_of_a_pod_that_is_gone(pod: dict[str, Any], code: str, words: str) -> None:
    said = view.last_words(essential(pod))

    assert said.code == code and words in said.message


def test_of_many_events_the_newest_warning_that_says_something_counts() -> None:
    events = [
        {"type": "Normal", "reason": "Pulling", "message": "Pulling image", "lastTimestamp": at(1)},
        {"type": "Warning", "reason": "Failed", "message": "Error: ErrImagePull", "lastTimestamp": at(1)},
        {"type": "Warning", "reason": "FailedScheduling", "message": "0/1 nodes", "eventTime": at(0)},
        {
            "type": "Warning",
            "reason": "Failed",
            "message": PULL_FAILED.message,
            "lastTimestamp": at(2),
        },
        {
            "type": "Warning",
            "reason": "FailedMount",
            "message": "before",
            "series": {"lastObservedTime": at(9)},
        },
    ]

    assert last_warning(events) == PULL_FAILED
    assert last_warning([]) is None


@pytest.mark.parametrize(
    ("status", "reason", "words", "code", "advice"),
    [
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: User "u" cannot create resource "pods"',
            "ERR_5002",
            "kubectl apply",
        ),
        (
            403,
            "Forbidden",
            'error looking up service account n/w: serviceaccount "w" not found',
            "ERR_5007",
            "kubectl",
        ),
        (
            403,
            "Forbidden",
            'violates PodSecurity "restricted:latest": runAsNonRoot != true',
            "ERR_5007",
            "pod_template",
        ),
        (404, "NotFound", 'namespaces "workers" not found', "ERR_5007", "kubectl create namespace workers"),
        (
            403,
            "Forbidden",
            "exceeded quota: q, requested: requests.cpu=1k, used: requests.cpu=0, limited: requests.cpu=16",
            "ERR_3008",
            "more than the namespace's quota",
        ),
        (
            403,
            "Forbidden",
            "exceeded quota: q, requested: pods=1, used: pods=20, limited: pods=20",
            "ERR_5003",
            "used up",
        ),
        (403, "Forbidden", "maximum cpu usage per Container is 4, but limit is 1k", "ERR_4005", "LimitRange"),
        (
            403,
            "Forbidden",
            "memory max limit to request ratio per Container is 1, but no request is specified or request is 0",
            "ERR_4005",
            "LimitRange",
        ),
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: failed quota: q: must specify limits.memory for: worker',
            "ERR_4005",
            "--memory",
        ),
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: status unknown for quota: q, resources: pods',
            "ERR_5003",
            "not been counted yet",
        ),
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: no PriorityClass with name urgent was found',
            "ERR_5007",
            "urgent",
        ),
        (
            403,
            "Forbidden",
            'admission webhook "policy.example" denied the request: no owner label',
            "ERR_5007",
            "no owner label",
        ),
        (
            409,
            "Conflict",
            'Operation cannot be fulfilled on resourcequotas "q": the object has been modified',
            "ERR_5008",
            "resourcequotas",
        ),
        (422, "Invalid", "spec.containers[0].image: Required value", "ERR_5005", "does not take"),
        (401, "Unauthorized", "Unauthorized", "ERR_5002", "credentials"),
        (429, "TooManyRequests", "slow down", "ERR_5003", "slow down"),
        (500, "InternalError", "etcd leader changed", "ERR_5008", "etcd"),
    ],
)
def test_a_refusal_is_said_in_the_platforms_codes(
    status: int, reason: str, words: str, code: str, advice: str
) -> None:
    failure = failures.refused(status, reason, words, namespace="workers", what="the pod p")

    assert failure.code == code and advice in failure.message


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (REGISTRY, "ERR_3001"),
        ("manifest unknown", "ERR_3001"),
        ("pull access denied, repository does not exist or may require authorization", "ERR_3001"),
        ("429 Too Many Requests - Server message: toomanyrequests", "ERR_5003"),
        ("write /var/lib/containerd: no space left on device", "ERR_3002"),
        ("no match for platform in manifest", "ERR_3001"),
    ],
)
def test_an_image_that_cannot_be_pulled_keeps_the_registrys_words(words: str, code: str) -> None:
    failure = failures.image_failed(words, image="a:1")

    assert failure.code == code and words in failure.message


@pytest.mark.parametrize(
    ("text", "number"),
    [("1k", 1000.0), ("500m", 0.5), ("2Gi", 2.0**31), ("16", 16.0), ("x", None), ("1e3", None)],
)
def test_quantities(text: str, number: float | None) -> None:
    assert failures.quantity(text) == number
