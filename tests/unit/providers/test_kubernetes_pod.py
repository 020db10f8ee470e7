"""The manifests of a worker, against files that say how they must look; what a template and a configuration may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from hodei.providers.configuration import read_config
from hodei.providers.contract import ProviderError, WorkerRequest
from hodei.providers.kubernetes import pod, probe, restricted
from hodei.providers.kubernetes.config import KubernetesConfig

GOLDEN = Path(__file__).parent / "golden"
WORKER = UUID("00000000-0000-7000-8000-000000000001")
JOB = UUID("00000000-0000-7000-8000-000000000002")
TOKEN = "the-one-time-token"

EVERYTHING = {
    "image_pull_policy": "Never",
    "ephemeral_storage": "2GiB",
    "gpus": {"nvidia.com/gpu": 2},
    "node_selector": {"pool": "jobs"},
    "tolerations": [{"key": "jobs", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "spot", "operator": "DoesNotExist"}]}]
            }
        }
    },
    "priority_class": "low",
    "runtime_class": "gvisor",
    "labels": {"team": "data"},
    "annotations": {"prometheus.io/scrape": "false"},
    "user": "2000:3000",
    "termination_grace_s": 60,
    "pod_template": {
        "metadata": {"annotations": {"owner": "data"}},
        "spec": {
            "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["hodei.example"]}],
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "containers": [
                {
                    "name": "worker",
                    "env": [{"name": "SSL_CERT_DIR", "value": "/certificates"}],
                    "volumeMounts": [
                        {"name": "certificates", "mountPath": "/certificates", "readOnly": True}
                    ],
                }
            ],
            "volumes": [{"name": "certificates", "configMap": {"name": "certificates"}}],
        },
    },
}


def request(**fields: Any) -> WorkerRequest:
    fields = {"worker_id": WORKER, "job_id": JOB, "one_time_token": TOKEN, "deployment": "d1", **fields}
    return WorkerRequest(**fields)


def place(config: dict[str, Any] | None = None, **fields: Any) -> pod.Place:
    fields = {
        "namespace": "workers",
        "service_account": "worker",
        "default_image": "hodei-worker:1",
        **fields,
    }
    return pod.Place(config=read_config(KubernetesConfig, config), **fields)


def made(config: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return pod.worker_pod(request(**fields), place(config), server_url="http://10.0.0.5:8082")


MANIFESTS = {
    "pod": made(),
    "pod_with_limits": made(cpu=0.5, memory_bytes=512 * 1024**2, lifetime_s=1234.5),
    "pod_of_another_image": made(image="python:3.13-slim", cpu=2.0),
    "pod_with_everything": pod.worker_pod(
        request(
            image="registry.example/jobs:7", memory_bytes=1 << 30, labels={"team": "b", "note": "two words"}
        ),
        place(EVERYTHING, image_pull_secrets=("registry",)),
        server_url="https://hodei.example",
    ),
    "secret": pod.secret(request(), place()),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_manifest_is_as_it_was_agreed(name: str) -> None:
    assert MANIFESTS[name] == yaml.safe_load((GOLDEN / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name.startswith("pod")])
def test_every_pod_fits_pod_security_restricted(name: str) -> None:
    assert restricted.violations(MANIFESTS[name]) == []


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name.startswith("pod")])
def test_the_token_is_in_the_secret_alone(name: str) -> None:
    assert TOKEN not in str(MANIFESTS[name])
    assert MANIFESTS["secret"]["stringData"] == {"token": TOKEN}


def test_the_secret_is_given_to_its_pod_and_to_no_other() -> None:
    patch = pod.owner_patch({"metadata": {"name": "p", "uid": "u-1"}})

    [owner] = patch["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "p", "u-1")
    assert not owner["blockOwnerDeletion"]  # that would need a right of its own


def test_nobody_can_take_the_platforms_own_labels() -> None:
    labels = made(labels={"hodei.io/deployment": "other", "hodei-worker": "x", "team": "a"})["metadata"][
        "labels"
    ]

    assert (labels["hodei.io/deployment"], labels["hodei-worker"], labels["team"]) == ("d1", str(WORKER), "a")


def test_what_is_no_label_for_kubernetes_becomes_an_annotation_or_is_left_out() -> None:
    metadata = made(labels={"note": "two words", "not a key": "x"})["metadata"]

    assert "note" not in metadata["labels"] and metadata["annotations"]["note"] == "two words"
    assert "not a key" not in metadata["labels"] | metadata["annotations"]


def test_a_pod_is_a_workers_by_its_labels_and_not_by_its_name() -> None:
    ours = made()

    assert pod.worker_of(ours) == WORKER
    assert pod.worker_of({"metadata": {"name": ours["metadata"]["name"]}}) is None
    assert pod.worker_of({"metadata": {"labels": {"hodei.io/worker-id": str(WORKER)}}}) is None
    assert (
        pod.worker_of({"metadata": {"labels": {"hodei.io/managed": "true", "hodei.io/worker-id": "x"}}})
        is None
    )


def test_a_dollar_in_the_address_is_no_variable_of_kubernetes() -> None:
    container = pod.worker_pod(request(), place(), server_url="http://h/$(HOME)")["spec"]["containers"][0]

    assert container["env"][0] == {"name": "HODEI_SERVER", "value": "http://h/$$(HOME)"}


def test_the_smallest_request_is_not_rounded_to_nothing() -> None:
    assert made(cpu=0.0001)["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1m"}


def test_the_probe_is_a_workers_pod_without_its_token_and_its_labels() -> None:
    tried = probe.manifest(place(EVERYTHING), server_url="http://h:1", deployment="d1")

    assert restricted.violations(tried) == []
    assert "secretKeyRef" not in str(tried)
    assert "hodei-worker" not in tried["metadata"]["labels"] and pod.worker_of(tried) is None
    assert tried["spec"]["nodeSelector"] == {"pool": "jobs"}
    assert tried["spec"]["activeDeadlineSeconds"] == probe.PROBE_S


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"kubeconfg": "x"}, "config.kubeconfg is not known here"),
        ({"namespace": "Not_A_Name"}, "config.namespace"),
        ({"image_pull_policy": "Always"}, "config.image_pull_policy"),
        ({"image_pull_secrets": ["UPPER"]}, "config.image_pull_secrets"),
        ({"user": "0:0"}, "config.user"),
        ({"user": "10001:0"}, "config.user"),
        ({"user": "app"}, "config.user"),
        ({"gpus": {"gpu": 1}}, "config.gpus"),
        ({"gpus": {"nvidia.com/gpu": 0}}, "config.gpus"),
        ({"labels": {"hodei.io/managed": "false"}}, "the platform's own"),
        ({"labels": {"team": "two words"}}, "team=two words"),
        ({"annotations": {"hodei-worker": "x"}}, "the platform's own"),
        ({"node_selector": {"a b": "c"}}, "a b=c"),
        ({"unschedulable_s": -1}, "config.unschedulable_s"),
        ({"pod_template": {"kind": "Pod"}}, "pod_template: kind cannot be set"),
        ({"pod_template": {"metadata": {"name": "x"}}}, "pod_template.metadata: name cannot be set"),
        ({"pod_template": {"metadata": {"labels": {"hodei-worker": "x"}}}}, "the platform's own"),
        ({"pod_template": {"spec": []}}, "pod_template.spec is not an object"),
        ({"pod_template": {"spec": {"restartPolicy": "Always"}}}, "restartPolicy cannot be set"),
        ({"pod_template": {"spec": {"hostNetwork": True}}}, "hostNetwork cannot be set"),
        ({"pod_template": {"spec": {"automountServiceAccountToken": True}}}, "automountServiceAccountToken"),
        (
            {"pod_template": {"spec": {"containers": [{"name": "side"}]}}},
            "others go into initContainers",
        ),
        ({"pod_template": {"spec": {"containers": [{"image": "x"}]}}}, "each with its name"),
        (
            {"pod_template": {"spec": {"containers": [{"name": "worker", "command": ["sh"]}]}}},
            "command cannot be set",
        ),
        (
            {
                "pod_template": {
                    "spec": {"containers": [{"name": "worker", "env": [{"name": "HODEI_TOKEN"}]}]}
                }
            },
            "HODEI_TOKEN is the agent's own",
        ),
        (
            {"pod_template": {"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}}},
            "is a hostPath",
        ),
        ({"pod_template": {"spec": {"securityContext": {"runAsUser": 0}}}}, "runs as root"),
        (
            {
                "pod_template": {
                    "spec": {"containers": [{"name": "worker", "securityContext": {"privileged": True}}]}
                }
            },
            "is privileged",
        ),
        (
            {"pod_template": {"spec": {"containers": [{"name": "worker", "securityContext": 3}]}}},
            "not shaped as a pod",
        ),
        ({"pod_template": {"spec": {"initContainers": [{"name": "more", "image": "x"}]}}}, "container more"),
    ],
)
def test_a_wrong_configuration_is_refused_when_it_is_read(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ProviderError, match=words) as caught:
        read_config(KubernetesConfig, document)

    assert caught.value.failure.code == "ERR_5007"


def test_a_template_changes_neither_the_document_nor_itself() -> None:
    before, template = made(), EVERYTHING["pod_template"]
    kept = str(before), str(template)

    pod.lay_over(before, template)  # type: ignore[arg-type]

    assert (str(before), str(template)) == kept


def test_null_in_a_template_removes() -> None:
    config = {"pod_template": {"spec": {"terminationGracePeriodSeconds": None, "enableServiceLinks": None}}}

    with pytest.raises(ProviderError, match="cannot be set"):
        read_config(KubernetesConfig, config)
    assert pod.lay_over({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}) == {"a": {"c": 2}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"allowPrivilegeEscalation": True}, "may escalate"),
        ({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, "adds capabilities"),
        ({"capabilities": {}}, "keeps capabilities"),
        ({"runAsNonRoot": False}, "may run as root"),
        ({"seccompProfile": {"type": "Unconfined"}}, "no seccomp profile"),
        ({"procMount": "Unmasked"}, "unmasked /proc"),
        ({"appArmorProfile": {"type": "Unconfined"}}, "switches AppArmor off"),
        ({"seLinuxOptions": {"type": "spc_t"}}, "SELinux"),
        ({"seLinuxOptions": {"user": "system_u", "type": "container_t"}}, "SELinux"),
        ({"windowsOptions": {"hostProcess": True}}, "process of the host"),
    ],
)
def test_what_restricted_forbids_is_named(change: dict[str, Any], words: str) -> None:
    document = made()
    document["spec"]["containers"][0]["securityContext"] |= change

    [found] = restricted.violations(document)
    assert words in found


def test_what_restricted_lets_a_template_say_is_taken() -> None:
    document = made()
    document["metadata"]["annotations"]["container.apparmor.security.beta.kubernetes.io/worker"] = (
        "runtime/default"
    )
    document["spec"]["securityContext"] |= {
        "appArmorProfile": {"type": "RuntimeDefault"},
        "seLinuxOptions": {"level": "s0:c1", "type": "container_t"},
        "sysctls": [{"name": "net.ipv4.tcp_keepalive_time", "value": "60"}],
    }

    assert restricted.violations(document) == []


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ({"livenessProbe": {"httpGet": {"host": "elsewhere", "port": 1}}}, "another host"),
        ({"lifecycle": {"preStop": {"tcpSocket": {"host": "elsewhere", "port": 1}}}}, "another host"),
        ({"livenessProbe": {"httpGet": {"port": 1}}}, None),
    ],
)
def test_a_probe_asks_its_own_pod_and_nobody_else(probe: dict[str, Any], words: str | None) -> None:
    document = made()
    document["spec"]["containers"][0] |= probe

    found = restricted.violations(document)

    assert len(found) == (words is not None) and (words or "") in "".join(found)
