"""The variables that a container gets, as the kubelet puts them together."""

from __future__ import annotations

import base64
import re
from typing import Any

from support.k8s_stand_in import quantities
from support.k8s_stand_in.resources import CONFIG_MAPS, SECRETS, SERVICES
from support.k8s_stand_in.store import Object, Store

_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
_ALWAYS = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "KUBERNETES_SERVICE_PORT_HTTPS": "443",
    "KUBERNETES_PORT": "tcp://10.96.0.1:443",
    "KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443",
    "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
    "KUBERNETES_PORT_443_TCP_PORT": "443",
    "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
}
"""The API's own service, which every pod is told of."""


class NotReady(Exception):
    """The kubelet cannot make the container as things are: it says so, and looks again later."""


def variables(store: Store, pod: Object, container: dict[str, Any]) -> dict[str, str]:
    """Raises NotReady for a Secret or ConfigMap that is missing."""
    found: dict[str, str] = dict(_ALWAYS)
    if pod["spec"].get("enableServiceLinks", True):
        found |= _links(store, pod["metadata"]["namespace"])
    for source in container.get("envFrom") or ():
        data = _source(store, pod, source)
        found |= {f"{source.get('prefix', '')}{key}": value for key, value in data.items()}
    for variable in container.get("env") or ():
        value = _value(store, pod, variable, found)
        if value is not None:
            found[variable["name"]] = value
    return found


def expand(text: str, known: dict[str, str]) -> str:
    """``$(NAME)`` is replaced when the name is known; ``$$`` stands for one dollar."""
    return _REFERENCE.sub(lambda at: "$" if at[0] == "$$" else known.get(at[1], at[0]), text)


def field_of(pod: Object, path: str) -> str:
    """What ``fieldRef`` names, as text."""
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    value: Any = pod
    for step in path.split("."):
        value = (value or {}).get(step)
    if isinstance(value, dict):
        return "\n".join(f'{key}="{item}"' for key, item in sorted(value.items()))
    return "" if value is None else str(value)


def resource_of(pod: Object, ref: dict[str, Any], container: dict[str, Any] | None = None) -> str:
    """What ``resourceFieldRef`` names, in whole units of its divisor, rounded up."""
    named = ref.get("containerName")
    found = next((one for one in pod["spec"]["containers"] if one["name"] == named), container) or {}
    kind, _, name = ref["resource"].partition(".")
    amount = quantities.amount(((found.get("resources") or {}).get(kind) or {}).get(name, "0"))
    divisor = quantities.amount(ref.get("divisor") or "1") or 1
    return str(-int(-amount // divisor))


def _value(store: Store, pod: Object, variable: dict[str, Any], known: dict[str, str]) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return expand(variable.get("value", ""), known)
    if "fieldRef" in source:
        return field_of(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_of(pod, source["resourceFieldRef"])
    kind = SECRETS if "secretKeyRef" in source else CONFIG_MAPS
    ref = source.get("secretKeyRef") or source["configMapKeyRef"]
    namespace = pod["metadata"]["namespace"]
    item = store.get(kind, namespace, ref["name"])
    if item is None:
        if ref.get("optional"):
            return None
        raise NotReady(f'{kind.kind.lower()} "{ref["name"]}" not found')
    data = item.get("data") or {}
    if ref["key"] not in data:
        if ref.get("optional"):
            return None
        raise NotReady(f"couldn't find key {ref['key']} in {kind.kind} {namespace}/{ref['name']}")
    return base64.b64decode(data[ref["key"]]).decode() if kind is SECRETS else str(data[ref["key"]])


def _source(store: Store, pod: Object, source: dict[str, Any]) -> dict[str, str]:
    kind = SECRETS if "secretRef" in source else CONFIG_MAPS
    ref = source.get("secretRef") or source["configMapRef"]
    item = store.get(kind, pod["metadata"]["namespace"], ref["name"])
    if item is None:
        if ref.get("optional"):
            return {}
        raise NotReady(f'{kind.kind.lower()} "{ref["name"]}" not found')
    data = item.get("data") or {}
    if kind is SECRETS:
        return {key: base64.b64decode(value).decode() for key, value in data.items()}
    return dict(data)


def _links(store: Store, namespace: str) -> dict[str, str]:
    """What a pod is told of the services beside it, unless it wants no links."""
    found = {}
    for service in store.list(SERVICES, namespace):
        name = service["metadata"]["name"].upper().replace("-", "_")
        address = (service.get("spec") or {}).get("clusterIP") or "10.96.0.2"
        for port in (service.get("spec") or {}).get("ports") or ():
            number = str(port["port"])
            found |= {
                f"{name}_SERVICE_HOST": address,
                f"{name}_SERVICE_PORT": number,
                f"{name}_PORT": f"tcp://{address}:{number}",
                f"{name}_PORT_{number}_TCP": f"tcp://{address}:{number}",
            }
    return found
