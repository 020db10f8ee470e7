"""The container of a worker, as Docker's API wants it: pure functions from a request to names, labels and a
body."""

from __future__ import annotations

import math
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from hodei.providers.contract import WorkerRequest
from hodei.providers.docker.config import DockerConfig, Mount

NAME_PREFIX = "hodei-worker-"
MANAGED = "hodei.managed"
WORKER_ID = "hodei.worker.id"
JOB_ID = "hodei.job.id"
DEPLOYMENT = "hodei.deployment"
AGENT_INJECTED = "hodei.agent.injected"
"""On containers whose image has no agent: it is put in before they start."""

AGENT_VERSION_LABEL = "hodei.agent.version"
"""On images: the agent is inside, and is the entry point."""

AGENT_HOME = "/opt/hodei"
AGENT_PACKAGE = f"{AGENT_HOME}/hodei_agent"
STOP_TIMEOUT_S = 30
"""How long the agent has when the Docker daemon itself shuts down and stops everything."""


def container_name(worker_id: UUID) -> str:
    return f"{NAME_PREFIX}{worker_id}"


def labels(request: WorkerRequest, config: DockerConfig, *, inject_agent: bool) -> dict[str, str]:
    """The container's labels; the platform's own win over the request's and the configuration's."""
    own = {MANAGED: "true", WORKER_ID: str(request.worker_id), DEPLOYMENT: request.deployment}
    if request.job_id is not None:
        own[JOB_ID] = str(request.job_id)
    if inject_agent:
        own[AGENT_INJECTED] = "true"
    return config.labels | request.labels | own


def owned_filter(deployment: str) -> dict[str, list[str]]:
    """The filter that finds the containers of this deployment and no others."""
    return {"label": [f"{MANAGED}=true", f"{DEPLOYMENT}={deployment}"]}


def is_worker(found: dict[str, str] | None, worker_id: UUID) -> bool:
    """Whether a container with these labels is the one made for this worker."""
    found = found or {}
    return found.get(MANAGED) == "true" and found.get(WORKER_ID) == str(worker_id)


def environment(request: WorkerRequest, server_url: str) -> list[str]:
    return [
        f"HODEI_SERVER={server_url}",
        f"HODEI_TOKEN={request.one_time_token}",
        f"HODEI_WORKER_ID={request.worker_id}",
    ]


def user_for(image_user: str, config: DockerConfig) -> str:
    """The image's own user when it has one that is not root, else the configured one."""
    name = image_user.partition(":")[0]
    return config.user if name in {"", "root"} or name.strip("0") == "" else image_user


def create_body(
    request: WorkerRequest,
    config: DockerConfig,
    *,
    image: str,
    server_url: str,
    inject_agent: bool = False,
    image_user: str = "",
) -> dict[str, Any]:
    """The body of ``POST /containers/create``.

    No ``Init``: the agent reaps as PID 1, and `docker-init` is missing on some hosts. No memory-backed
    ``/tmp``: the agent's spool of logs is there, and would be charged to the job's memory. Swap equals
    memory: a job that outgrows its limit is killed rather than slowed down.
    """
    body: dict[str, Any] = {
        "Image": image,
        "Env": environment(request, server_url),
        "Labels": labels(request, config, inject_agent=inject_agent),
        "User": config.user,
        "StopSignal": "SIGTERM",
        "StopTimeout": STOP_TIMEOUT_S,
        "HostConfig": _host_config(request, config),
    }
    if inject_agent:
        body |= {
            "User": user_for(image_user, config),
            "Entrypoint": ["/bin/sh", f"{AGENT_PACKAGE}/launch.sh"],
            "Cmd": [],
            "WorkingDir": "/",
            "Healthcheck": {"Test": ["NONE"]},
        }
    return body


def _host_config(request: WorkerRequest, config: DockerConfig) -> dict[str, Any]:
    host: dict[str, Any] = {
        "NetworkMode": config.network,
        "ExtraHosts": ["host.docker.internal:host-gateway"],
        "PidsLimit": config.pids_limit,
        "SecurityOpt": ["no-new-privileges:true"],
        "CapDrop": ["ALL"],
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "LogConfig": {
            "Type": "local",  # holds far more of a log than json-file in the same space, and follows over rotations
            "Config": {"max-size": str(config.log_max_bytes), "max-file": "2"},
        },
    }
    if config.mounts:
        host["Mounts"] = [_mount(mount) for mount in config.mounts]
    cpu = request.cpu if request.cpu is not None else config.cpu_default
    if cpu is not None:
        host["NanoCpus"] = max(1, math.floor(cpu * 1_000_000_000))
    memory = request.memory_bytes if request.memory_bytes is not None else config.memory_default
    if memory is not None:
        host |= {"Memory": memory, "MemorySwap": memory}
    return host


def _mount(mount: Mount) -> dict[str, Any]:
    """A path that is not there is refused, unlike with ``Binds``, where Docker would make it an empty folder of root's."""
    return {
        "Type": "volume" if mount.is_volume else "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }


def gateway_of(network: dict[str, Any]) -> str | None:
    """The IPv4 address of the host in a network, from ``GET /networks/{id}``.

    Engines leave the gateway of the default bridge out when it was not chosen: it is then the first address
    of the range.
    """
    for entry in (network.get("IPAM") or {}).get("Config") or ():
        gateway = str(entry.get("Gateway") or "").partition("/")[0]
        if not gateway and ":" not in entry.get("Subnet", ":"):
            gateway = str(ip_network(entry["Subnet"], strict=False)[1])
        if gateway and ":" not in gateway:
            return gateway
    return None
