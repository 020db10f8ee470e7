"""A namespace to make pods in, and pods as short as they can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from support.platform import E2E_IMAGE
from support.waiting import until

SLOWEST_S = 40.0


def pod(
    name: str, line: str = "true", *, spec: dict[str, Any] | None = None, **container: Any
) -> dict[str, Any]:
    """A pod that runs a shell line, and that ``restricted`` lets in."""
    runs: dict[str, Any] = {
        "name": "main",
        "image": E2E_IMAGE,
        "command": ["sh", "-c", line],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    whole: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 2,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [runs | container],
    }
    return {"metadata": {"name": name, "labels": {"test": name}}, "spec": whole | (spec or {})}


@dataclass(frozen=True)
class Space:
    """One namespace, with the rights of an administrator."""

    core: client.CoreV1Api
    name: str

    def create(self, body: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self._plain(self.core.create_namespaced_pod(self.name, body, **options))

    def pod(self, name: str) -> dict[str, Any] | None:
        """The pod as the API writes it; None: there is none."""
        try:
            return self._plain(self.core.read_namespaced_pod(name, self.name))
        except ApiException as error:
            assert error.status == 404, error
            return None

    def ended(self, name: str) -> dict[str, Any]:
        """The pod, once it is Succeeded or Failed."""

        def over() -> dict[str, Any] | None:
            found = self.pod(name)
            assert found is not None, f"the pod {name} is gone"
            return found if found["status"]["phase"] in ("Succeeded", "Failed") else None

        found = until(over, within_s=SLOWEST_S, what=f"the end of {name}")
        assert found is not None
        return found

    def running(self, name: str) -> dict[str, Any]:
        """The pod, once its container runs."""
        return self.in_state(name, "running")

    def in_state(self, name: str, state: str, reason: str = "") -> dict[str, Any]:
        """The pod, once its container is in this state, for this reason."""

        def there() -> dict[str, Any] | None:
            found = self.pod(name)
            seen = state_of(found).get(state) if found else None
            return found if seen is not None and reason in ("", seen.get("reason")) else None

        found = until(there, within_s=SLOWEST_S, what=f"{name} {state} {reason}")
        assert found is not None
        return found

    def gone(self, name: str) -> None:
        until(lambda: self.pod(name) is None, within_s=SLOWEST_S, what=f"the pod {name} gone")

    def log(self, name: str, *, follow: bool = False) -> str:
        """The log of the pod's first container; ``follow``: until it has ended."""
        answer = self.core.read_namespaced_pod_log(
            name, self.name, container="main", follow=follow, _preload_content=False
        )
        return str(answer.data.decode())

    def events(self, name: str) -> list[tuple[str, str]]:
        """Reasons and messages of what happened to the pod."""
        found = self.core.list_namespaced_event(self.name, field_selector=f"involvedObject.name={name}").items
        return [(event.reason, event.message) for event in found]

    def accounts(self) -> list[str]:
        return [one.metadata.name for one in self.core.list_namespaced_service_account(self.name).items]

    def namespaces(self) -> list[str]:
        return [one.metadata.name for one in self.core.list_namespace().items]

    def _plain(self, item: Any) -> dict[str, Any]:
        plain: dict[str, Any] = self.core.api_client.sanitize_for_serialization(item)
        return plain


def state_of(found: dict[str, Any]) -> dict[str, Any]:
    """The state of the pod's only container; empty before the kubelet has seen it."""
    statuses = found["status"].get("containerStatuses") or [{"state": {}}]
    state: dict[str, Any] = statuses[0]["state"]
    return state


@contextmanager
def refused(code: int, reason: str) -> Iterator[dict[str, Any]]:
    """Expects a refusal; what is yielded becomes its Status."""
    said: dict[str, Any] = {}
    with pytest.raises(ApiException) as caught:
        yield said
    said |= json.loads(caught.value.body)
    assert (caught.value.status, said["code"], said["reason"]) == (code, code, reason), said
    assert said["kind"] == "Status" and said["status"] == "Failure"
