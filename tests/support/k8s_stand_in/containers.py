"""The body of the Docker container that stands for a pod's container: a pure function of the two."""

from __future__ import annotations

from typing import Any

from support.k8s_stand_in import environment, quantities
from support.k8s_stand_in.environment import NotReady

_CPU_PERIOD_US = 100_000
_SHARES_PER_CPU = 1024
_MIN_QUOTA_US = 1000


def body(
    pod: dict[str, Any],
    container: dict[str, Any],
    *,
    image: dict[str, Any],
    variables: dict[str, str],
    binds: list[str],
    memory_mounts: dict[str, str],
    labels: dict[str, str],
) -> dict[str, Any]:
    """Raises NotReady. ``image`` is what the engine knows of it."""
    spec = pod["spec"]
    found: dict[str, Any] = {
        "Image": container["image"],
        "Hostname": (spec.get("hostname") or pod["metadata"]["name"])[:63],
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": labels,
        "HostConfig": _host(pod, container, binds, memory_mounts),
        "Healthcheck": {"Test": ["NONE"]},
    }
    user = user_of(pod, container, image)
    found |= {"User": user} if user else {}
    if container.get("command"):
        found["Entrypoint"] = [environment.expand(word, variables) for word in container["command"]]
        found["Cmd"] = []
    if container.get("args"):
        found["Cmd"] = [environment.expand(word, variables) for word in container["args"]]
    if container.get("workingDir"):
        found["WorkingDir"] = container["workingDir"]
    return found


def user_of(pod: dict[str, Any], container: dict[str, Any], image: dict[str, Any]) -> str:
    """``uid:gid``, or empty for the image's own. Raises NotReady for root where ``runAsNonRoot`` is set."""
    context = (pod["spec"].get("securityContext") or {}) | (container.get("securityContext") or {})
    uid, gid = context.get("runAsUser"), context.get("runAsGroup")
    own = str((image.get("Config") or {}).get("User") or "")
    if context.get("runAsNonRoot"):
        meta = pod["metadata"]
        where = f'(pod: "{meta["name"]}_{meta["namespace"]}({meta["uid"]})", container: {container["name"]})'
        name = own.partition(":")[0]
        if uid == 0:
            raise NotReady(f"container's runAsUser breaks non-root policy {where}")
        if uid is None and (not name or name in ("0", "root")):
            raise NotReady(f"container has runAsNonRoot and image will run as root {where}")
        if uid is None and not name.isdigit():
            raise NotReady(
                f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {where}"
            )
    if uid is None and gid is None:
        return ""
    return f"{own.partition(':')[0] or 0 if uid is None else uid}:{0 if gid is None else gid}"


def _host(
    pod: dict[str, Any], container: dict[str, Any], binds: list[str], memory_mounts: dict[str, str]
) -> dict[str, Any]:
    spec, context = pod["spec"], container.get("securityContext") or {}
    whole = spec.get("securityContext") or {}
    capabilities = context.get("capabilities") or {}
    options = []
    if context.get("allowPrivilegeEscalation") is False:
        options.append("no-new-privileges:true")
    seccomp = (context.get("seccompProfile") or whole.get("seccompProfile") or {}).get("type")
    if seccomp == "Unconfined":
        options.append("seccomp=unconfined")
    groups = [*(whole.get("supplementalGroups") or ()), *filter(None, [whole.get("fsGroup")])]
    return {
        "NetworkMode": "bridge",
        "Binds": binds,
        "Tmpfs": memory_mounts,
        "ReadonlyRootfs": bool(context.get("readOnlyRootFilesystem")),
        "CapDrop": [str(one) for one in capabilities.get("drop") or ()],
        "CapAdd": [str(one) for one in capabilities.get("add") or ()],
        "SecurityOpt": options,
        "GroupAdd": [str(one) for one in groups],
        "ExtraHosts": [
            f"{name}:{alias['ip']}"
            for alias in spec.get("hostAliases") or ()
            for name in alias.get("hostnames") or ()
        ],
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "local", "Config": {"max-size": "10m", "max-file": "5"}},
        **_limits(container["resources"]),
    }


def _limits(resources: dict[str, Any]) -> dict[str, int]:
    found = {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    if "cpu" in requests:
        found["CpuShares"] = max(2, int(quantities.amount(requests["cpu"]) * _SHARES_PER_CPU))
    if "cpu" in limits:
        quota_us = int(quantities.amount(limits["cpu"]) * _CPU_PERIOD_US)
        found |= {"CpuPeriod": _CPU_PERIOD_US, "CpuQuota": max(_MIN_QUOTA_US, quota_us)}
    if "memory" in limits:
        memory = int(quantities.amount(limits["memory"]))
        found |= {"Memory": memory, "MemorySwap": memory}
    return found
