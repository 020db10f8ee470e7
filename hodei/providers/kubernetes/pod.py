"""The pod of a worker and the Secret with its one-time token, as Kubernetes' API wants them: pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hodei.providers.contract import WorkerRequest
from hodei.providers.kubernetes.config import KubernetesConfig, is_label, is_reserved
from hodei.providers.kubernetes.overlay import AGENT, WORKER, lay_over

NAME_PREFIX = "hodei-worker-"
WORKER_LABEL = "hodei-worker"
MANAGED = "hodei.io/managed"
WORKER_ID = "hodei.io/worker-id"
JOB_ID = "hodei.io/job-id"
DEPLOYMENT = "hodei.io/deployment"
TOKEN_KEY = "token"
AGENT_HOME = "/opt/hodei"
AGENT_PACKAGE = f"{AGENT_HOME}/hodei_agent"
HOME = "/home/hodei"
_BROUGHT = "/agent"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where pods go, and what all of a provider's have in common."""

    namespace: str
    service_account: str
    default_image: str
    config: KubernetesConfig
    image_pull_secrets: tuple[str, ...] = ()


def name_of(worker_id: UUID) -> str:
    """The name of the worker's pod, and of its Secret."""
    return f"{NAME_PREFIX}{worker_id}"


def owned_by(deployment: str) -> str:
    """The label selector that finds what is of this deployment, and nothing else."""
    return f"{MANAGED}=true,{DEPLOYMENT}={deployment}"


def made_for(worker_id: UUID) -> str:
    """The label selector of one worker's pod and Secret."""
    return f"{MANAGED}=true,{WORKER_ID}={worker_id}"


def worker_of(document: dict[str, Any]) -> UUID | None:
    """The worker that a pod or Secret was made for; None for what is not ours, whatever it is called."""
    labels = document["metadata"].get("labels") or {}
    try:
        return UUID(labels[WORKER_ID]) if labels.get(MANAGED) == "true" else None
    except (KeyError, ValueError):
        return None


def labels(request: WorkerRequest, config: KubernetesConfig) -> dict[str, str]:
    """The labels of pod and Secret; the platform's own win. What Kubernetes does not take as a label is an annotation."""
    own = {
        WORKER_LABEL: str(request.worker_id),
        MANAGED: "true",
        WORKER_ID: str(request.worker_id),
        DEPLOYMENT: request.deployment,
        "app.kubernetes.io/name": "hodei-worker",
        "app.kubernetes.io/managed-by": "hodei-jobs",
    }
    if request.job_id is not None:
        own[JOB_ID] = str(request.job_id)
    asked = {
        key: text for key, text in request.labels.items() if is_label(key, text) and not is_reserved(key)
    }
    return config.labels | asked | own


def pod_annotations(request: WorkerRequest, config: KubernetesConfig) -> dict[str, str]:
    """The pod's annotations: the configured ones, and labels asked for whose text is no label's."""
    texts = {
        key: text
        for key, text in request.labels.items()
        if not is_label(key, text) and is_label(key, "") and not is_reserved(key)
    }
    autoscaler = {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"
    }  # a job that is moved begins again
    return autoscaler | config.annotations | texts


def secret(request: WorkerRequest, place: Place) -> dict[str, Any]:
    """The Secret with the token. It has no owner yet: the pod, which will be, is made after it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name_of(request.worker_id),
            "namespace": place.namespace,
            "labels": labels(request, place.config),
        },
        "type": "Opaque",
        "stringData": {TOKEN_KEY: request.one_time_token},
    }


def owner_patch(pod: dict[str, Any]) -> dict[str, Any]:
    """The merge patch that gives the Secret to its pod: it goes when the pod goes."""
    metadata = pod["metadata"]
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }
    return {"metadata": {"ownerReferences": [owner]}}


def worker_pod(request: WorkerRequest, place: Place, *, server_url: str) -> dict[str, Any]:
    """The worker's pod.

    An image that is not the default one gets the agent from an init container of the default image, since nobody can look
    into an image before it runs. /tmp and home are on the node's disk, not in memory: what a job writes there would be
    charged to its memory.
    """
    config = place.config
    image = request.image or place.default_image
    brings_agent = image != place.default_image
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": place.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": config.termination_grace_s,
        "activeDeadlineSeconds": math.ceil(request.lifetime_s or config.active_deadline_s),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": config.user_id,
            "runAsGroup": config.group_id,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_worker(request, place, image, server_url, brings_agent=brings_agent)],
        "volumes": [{"name": "tmp", "emptyDir": _room(config)}, {"name": "home", "emptyDir": _room(config)}],
    }
    if brings_agent:
        spec["initContainers"] = [_agent(request, place)]
        spec["volumes"].append({"name": "agent", "emptyDir": {}})
    spec |= _placement(place)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(request.worker_id),
            "namespace": place.namespace,
            "labels": labels(request, config),
            "annotations": pod_annotations(request, config),
        },
        "spec": spec,
    }
    return lay_over(pod, config.pod_template)


def _worker(
    request: WorkerRequest, place: Place, image: str, server_url: str, *, brings_agent: bool
) -> dict[str, Any]:
    token = {"name": name_of(request.worker_id), "key": TOKEN_KEY}
    container: dict[str, Any] = {
        "name": WORKER,
        "image": image,
        "imagePullPolicy": place.config.image_pull_policy,
        "workingDir": HOME,
        "env": [
            {"name": "HODEI_SERVER", "value": server_url.replace("$", "$$")},
            {"name": "HODEI_WORKER_ID", "value": str(request.worker_id)},
            {"name": "HODEI_TOKEN", "valueFrom": {"secretKeyRef": token}},
        ],
        "securityContext": _confined(),
        "resources": resources(request, place.config),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "home", "mountPath": HOME}],
    }
    if brings_agent:
        container["command"] = ["/bin/sh", f"{AGENT_PACKAGE}/launch.sh"]
        container["volumeMounts"].append({"name": "agent", "mountPath": AGENT_HOME, "readOnly": True})
    return container


def _agent(request: WorkerRequest, place: Place) -> dict[str, Any]:
    """Copies the agent out of the worker image. It asks for what the worker does: a quota may want to know."""
    wanted = resources(request, place.config)
    return {
        "name": AGENT,
        "image": place.default_image,
        "imagePullPolicy": place.config.image_pull_policy,
        "command": ["cp", "-R", AGENT_PACKAGE, _BROUGHT],
        "securityContext": _confined(),
        "resources": {
            kind: {name: amount for name, amount in amounts.items() if "/" not in name}
            for kind, amounts in wanted.items()
        },
        "volumeMounts": [{"name": "agent", "mountPath": _BROUGHT}],
    }


def _confined() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def resources(request: WorkerRequest, config: KubernetesConfig) -> dict[str, dict[str, str]]:
    """Requests and limits, which are the same: a worker gets what was asked for, and no more."""
    amounts: dict[str, str] = {}
    cpu = request.cpu if request.cpu is not None else config.cpu_default
    if cpu is not None:
        amounts["cpu"] = f"{max(1, math.floor(cpu * 1000))}m"
    memory = request.memory_bytes if request.memory_bytes is not None else config.memory_default
    if memory is not None:
        amounts["memory"] = str(memory)
    if config.ephemeral_storage is not None:
        amounts["ephemeral-storage"] = str(config.ephemeral_storage)
    amounts |= {name: str(count) for name, count in config.gpus.items()}
    return {"requests": amounts, "limits": dict(amounts)} if amounts else {}


def _room(config: KubernetesConfig) -> dict[str, str]:
    return {} if config.ephemeral_storage is None else {"sizeLimit": str(config.ephemeral_storage)}


def _placement(place: Place) -> dict[str, Any]:
    config = place.config
    asked: dict[str, Any] = {
        "imagePullSecrets": [{"name": name} for name in place.image_pull_secrets],
        "nodeSelector": dict(config.node_selector),
        "tolerations": [dict(toleration) for toleration in config.tolerations],
        "affinity": dict(config.affinity),
        "priorityClassName": config.priority_class,
        "runtimeClassName": config.runtime_class,
    }
    return {name: value for name, value in asked.items() if value}


def sample(config: KubernetesConfig) -> dict[str, Any]:
    """A pod as the configuration makes them, to look at."""
    request = WorkerRequest(worker_id=UUID(int=0), one_time_token="", deployment="sample", image="sample")
    place = Place(namespace="sample", service_account="sample", default_image="worker", config=config)
    return worker_pod(request, place, server_url="http://sample")
