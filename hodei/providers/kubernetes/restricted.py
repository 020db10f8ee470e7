"""What the Pod Security Standard `restricted` forbids in pods of Linux, as Kubernetes' documentation has it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
"""Those of 1.32; older clusters refuse the later ones when the first pod is made."""

_SELINUX_TYPES = frozenset({"container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_APPARMOR_BETA = "container.apparmor.security.beta.kubernetes.io/"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")


def violations(pod: dict[str, Any]) -> list[str]:
    """A phrase for each thing that a cluster would refuse in a namespace that enforces `restricted`; empty: it fits."""
    return list(dict.fromkeys(_all(pod)))


def _all(pod: dict[str, Any]) -> Iterator[str]:
    spec = pod["spec"]
    whole = spec.get("securityContext") or {}
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is set"
    for volume in spec.get("volumes") or ():
        kinds = set(volume) - {"name"}
        if kinds - _VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(sorted(kinds - _VOLUMES))}"
    for sysctl in whole.get("sysctls") or ():
        if sysctl.get("name") not in _SYSCTLS:
            yield f"the sysctl {sysctl.get('name')} is not a safe one"
    for key, profile in (pod["metadata"].get("annotations") or {}).items():
        if key.startswith(_APPARMOR_BETA) and not _is_apparmor_profile(profile):
            yield f"the annotation {key} switches AppArmor off"
    yield from _labels("the pod", whole)
    for container in (spec.get("initContainers") or []) + (spec.get("containers") or []):
        yield from _container(container, whole)


def _container(container: dict[str, Any], whole: dict[str, Any]) -> Iterator[str]:
    name, own = container["name"], container.get("securityContext") or {}
    if own.get("privileged"):
        yield f"container {name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"container {name} may escalate its privileges"
    if not own.get("runAsNonRoot", whole.get("runAsNonRoot")):
        yield f"container {name} may run as root"
    if own.get("runAsUser", whole.get("runAsUser")) == 0:
        yield f"container {name} runs as root"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield f"container {name} keeps capabilities"
    if set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield f"container {name} adds capabilities"
    seccomp = own.get("seccompProfile") or whole.get("seccompProfile") or {}
    if seccomp.get("type") not in {"RuntimeDefault", "Localhost"}:
        yield f"container {name} has no seccomp profile"
    if (own.get("procMount") or "Default") != "Default":
        yield f"container {name} has an unmasked /proc"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield f"container {name} takes a port of the host"
    yield from _labels(f"container {name}", own)
    if any(_names_a_host(handler) for handler in _handlers(container)):
        yield f"container {name} has a probe or hook of another host"


def _labels(who: str, context: dict[str, Any]) -> Iterator[str]:
    """What the kernel's security modules, and Windows', make of it."""
    apparmor = context.get("appArmorProfile")
    if apparmor is not None and apparmor.get("type") not in {"RuntimeDefault", "Localhost"}:
        yield f"{who} switches AppArmor off"
    selinux = context.get("seLinuxOptions") or {}
    if (
        selinux.get("user")
        or selinux.get("role")
        or (selinux.get("type") or "container_t") not in _SELINUX_TYPES
    ):
        yield f"{who} sets an SELinux user, role or type that is not a container's"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{who} is a process of the host"


def _is_apparmor_profile(profile: str) -> bool:
    return not profile or profile == "runtime/default" or profile.startswith("localhost/")


def _handlers(container: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (container.get(name) or {} for name in _PROBES)
    yield from ((container.get("lifecycle") or {}).get(name) or {} for name in _HOOKS)


def _names_a_host(handler: dict[str, Any]) -> bool:
    return any((handler.get(way) or {}).get("host") for way in ("httpGet", "tcpSocket"))
