"""Pod Security admission: the checks of ``baseline`` and ``restricted``, in the words of the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from support.k8s_stand_in.pod_defaults import all_containers

LABEL = "pod-security.kubernetes.io"
_ADDABLE = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret", "image",
}  # fmt: skip
_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip
_SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")
Spec = dict[str, Any]


def level(namespace: dict[str, Any], mode: str) -> str:
    """``privileged``, ``baseline`` or ``restricted``: what the namespace's label for ``enforce`` or ``warn`` says."""
    return str((namespace["metadata"].get("labels") or {}).get(f"{LABEL}/{mode}", "privileged"))


def violations(spec: Spec, wanted: str) -> str:
    """Everything of the pod that the level forbids, as one text; empty: it is allowed."""
    checks = {
        "privileged": (),
        "baseline": _BASELINE,
        "restricted": (*_BASELINE_IN_RESTRICTED, *_RESTRICTED),
    }[wanted]
    return ", ".join(found for check in checks for found in check(spec))


def _named(containers: list[str]) -> str:
    return f"container{'s' if len(containers) > 1 else ''} " + ", ".join(f'"{name}"' for name in containers)


def _where(spec: Spec, wrong: Callable[[dict[str, Any]], bool]) -> list[str]:
    """The names of the containers whose security context is wrong."""
    return [one["name"] for one in all_containers(spec) if wrong(one.get("securityContext") or {})]


def _quoted(texts: list[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)


def _subjects(spec: Spec, wrong: Callable[[dict[str, Any]], bool]) -> str:
    """Who has such a security context: the pod, containers, or both; empty: nobody."""
    names = _where(spec, wrong)
    pod = ["pod"] if wrong(spec.get("securityContext") or {}) else []
    return " and ".join(pod + ([_named(names)] if names else []))


def _contexts(spec: Spec) -> list[dict[str, Any]]:
    return [one.get("securityContext") or {} for one in (spec, *all_containers(spec))]


def _app_armor(spec: Spec) -> Iterator[str]:
    def profile(context: dict[str, Any]) -> str | None:
        found: str | None = (context.get("appArmorProfile") or {}).get("type")
        return None if found in ("RuntimeDefault", "Localhost") else found

    if subjects := _subjects(spec, lambda context: profile(context) is not None):
        bad = sorted({found for context in _contexts(spec) if (found := profile(context))})
        words = f"forbidden AppArmor profile{'s' if len(bad) > 1 else ''}"
        yield f"{words} ({subjects} must not set AppArmor profile type to {_quoted(bad)})"


def _host_probes(spec: Spec) -> Iterator[str]:
    def hosts(container: dict[str, Any]) -> set[str]:
        handlers = [container.get(name) or {} for name in _PROBES]
        handlers += [(container.get("lifecycle") or {}).get(name) or {} for name in _HOOKS]
        ways = [handler.get(way) or {} for handler in handlers for way in ("httpGet", "tcpSocket")]
        return {way["host"] for way in ways if way.get("host")}

    found = {one["name"]: hosts(one) for one in all_containers(spec)}
    names = sorted(name for name, bad in found.items() if bad)
    if names:
        bad = sorted(set().union(*found.values()))
        verb = "use" if len(names) > 1 else "uses"
        kind = f"probe or lifecycle host{'s' if len(bad) > 1 else ''}"
        yield f"probe or lifecycle host ({_named(names)} {verb} {kind} {_quoted(bad)})"


def _selinux(spec: Spec) -> Iterator[str]:
    def options(context: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = context.get("seLinuxOptions") or {}
        return found

    def bad(context: dict[str, Any]) -> bool:
        given = options(context)
        return bool(given.get("user") or given.get("role") or given.get("type", "") not in _SELINUX_TYPES)

    if subjects := _subjects(spec, bad):
        given = [options(context) for context in _contexts(spec)]
        types = sorted({one.get("type", "") for one in given} - _SELINUX_TYPES)
        said = [f"type{'s' if len(types) > 1 else ''} {_quoted(types)}"] if types else []
        said += [f"{name} may not be set" for name in ("user", "role") if any(one.get(name) for one in given)]
        yield f"seLinuxOptions ({subjects} set forbidden securityContext.seLinuxOptions: {'; '.join(said)})"


def _host_namespaces(spec: Spec) -> Iterator[str]:
    found = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    if found:
        yield f"host namespaces ({', '.join(found)})"


def _privileged(spec: Spec) -> Iterator[str]:
    if names := _where(spec, lambda context: bool(context.get("privileged"))):
        yield f"privileged ({_named(names)} must not set securityContext.privileged=true)"


def _added(context: dict[str, Any]) -> set[str]:
    return set((context.get("capabilities") or {}).get("add") or ())


def _default_capabilities(spec: Spec) -> Iterator[str]:
    if names := _where(spec, lambda context: bool(_added(context) - _ADDABLE)):
        added = sorted(
            {one for item in all_containers(spec) for one in _added(item.get("securityContext") or {})}
            - _ADDABLE
        )
        shown = ", ".join(f'"{one}"' for one in added)
        yield f"non-default capabilities ({_named(names)} must not include {shown} in securityContext.capabilities.add)"


def _host_path(spec: Spec) -> Iterator[str]:
    if names := [volume["name"] for volume in spec.get("volumes") or () if "hostPath" in volume]:
        shown = ", ".join(f'"{name}"' for name in names)
        yield f"hostPath volumes (volume{'s' if len(names) > 1 else ''} {shown})"


def _host_ports(spec: Spec) -> Iterator[str]:
    found = {
        one["name"]: port["hostPort"]
        for one in all_containers(spec)
        for port in one.get("ports") or ()
        if port.get("hostPort")
    }
    if found:
        ports = ", ".join(str(port) for port in found.values())
        yield f"hostPort ({_named(list(found))} uses hostPort {ports})"


def _unconfined_seccomp(spec: Spec) -> Iterator[str]:
    def bad(context: dict[str, Any]) -> bool:
        return (context.get("seccompProfile") or {}).get("type") == "Unconfined"

    subjects = ["pod"] if bad(spec.get("securityContext") or {}) else []
    if names := _where(spec, bad):
        subjects.append(_named(names))
    if subjects:
        yield f'seccompProfile ({" and ".join(subjects)} must not set securityContext.seccompProfile.type to "Unconfined")'


def _sysctls(spec: Spec) -> Iterator[str]:
    given = [one["name"] for one in (spec.get("securityContext") or {}).get("sysctls") or ()]
    if bad := [name for name in given if name not in _SYSCTLS]:
        yield f"forbidden sysctls ({', '.join(bad)})"


def _escalation(spec: Spec) -> Iterator[str]:
    if names := _where(spec, lambda context: context.get("allowPrivilegeEscalation") is not False):
        yield (
            f"allowPrivilegeEscalation != false ({_named(names)} must set "
            "securityContext.allowPrivilegeEscalation=false)"
        )


def _dropped_capabilities(spec: Spec) -> Iterator[str]:
    kept = _where(spec, lambda context: "ALL" not in ((context.get("capabilities") or {}).get("drop") or ()))
    added = _where(spec, lambda context: bool(_added(context) - {"NET_BIND_SERVICE"}))
    said = []
    if kept:
        said.append(f'{_named(kept)} must set securityContext.capabilities.drop=["ALL"]')
    if added:
        more = sorted(
            {one for item in all_containers(spec) for one in _added(item.get("securityContext") or {})}
            - {"NET_BIND_SERVICE"}
        )
        shown = ", ".join(f'"{one}"' for one in more)
        said.append(f"{_named(added)} must not include {shown} in securityContext.capabilities.add")
    if said:
        yield f"unrestricted capabilities ({'; '.join(said)})"


def _volume_types(spec: Spec) -> Iterator[str]:
    bad = {
        volume["name"]: kind
        for volume in spec.get("volumes") or ()
        for kind in volume
        if kind not in _VOLUMES | {"name"}
    }
    if bad:
        names, kinds = (
            ", ".join(f'"{name}"' for name in bad),
            ", ".join(f'"{kind}"' for kind in sorted(set(bad.values()))),
        )
        word = "volumes" if len(bad) > 1 else "volume"
        verb = "use restricted volume types" if len(bad) > 1 else "uses restricted volume type"
        yield f"restricted volume types ({word} {names} {verb} {kinds})"


def _non_root(spec: Spec) -> Iterator[str]:
    pod = (spec.get("securityContext") or {}).get("runAsNonRoot")
    explicit = _where(spec, lambda context: context.get("runAsNonRoot") is False)
    if pod is False or explicit:
        subjects = (["pod"] if pod is False else []) + ([_named(explicit)] if explicit else [])
        yield f"runAsNonRoot != true ({' and '.join(subjects)} must not set securityContext.runAsNonRoot=false)"
    elif pod is not True and (names := _where(spec, lambda context: context.get("runAsNonRoot") is not True)):
        yield f"runAsNonRoot != true (pod or {_named(names)} must set securityContext.runAsNonRoot=true)"


def _run_as_user(spec: Spec) -> Iterator[str]:
    subjects = ["pod"] if (spec.get("securityContext") or {}).get("runAsUser") == 0 else []
    if names := _where(spec, lambda context: context.get("runAsUser") == 0):
        subjects.append(_named(names))
    if subjects:
        yield f"runAsUser=0 ({' and '.join(subjects)} must not set runAsUser=0)"


def _seccomp(spec: Spec) -> Iterator[str]:
    def kind(context: dict[str, Any]) -> str | None:
        found: str | None = (context.get("seccompProfile") or {}).get("type")
        return found

    if kind(spec.get("securityContext") or {}) == "Unconfined" or _where(
        spec, lambda one: kind(one) == "Unconfined"
    ):
        yield from _unconfined_seccomp(spec)
    elif kind(spec.get("securityContext") or {}) is None and (
        names := _where(spec, lambda one: kind(one) is None)
    ):
        yield (
            f"seccompProfile (pod or {_named(names)} must set securityContext.seccompProfile.type "
            'to "RuntimeDefault" or "Localhost")'
        )


_BASELINE_IN_RESTRICTED = (
    _app_armor,
    _host_namespaces,
    _host_ports,
    _host_probes,
    _privileged,
    _selinux,
    _sysctls,
)
"""In the order of their real names, as :data:`_BASELINE` and :data:`_RESTRICTED` are."""

_BASELINE = (
    _app_armor,
    _default_capabilities,
    _host_namespaces,
    _host_path,
    _host_ports,
    _host_probes,
    _privileged,
    _selinux,
    _unconfined_seccomp,
    _sysctls,
)
_RESTRICTED = (_escalation, _dropped_capabilities, _volume_types, _non_root, _run_as_user, _seccomp)
