"""What can be set for a Kubernetes provider, in ``provider_configs.config``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hodei.providers.configuration import ProviderConfig
from hodei.providers.kubernetes import overlay
from hodei.settings import Bytes, Seconds

RESERVED = ("hodei-worker", "hodei.io/")
DAY_S = 86_400.0

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class KubernetesConfig(ProviderConfig):
    """Where the cluster is, and how pods are made there. What is None comes from the settings (``HODEI_K8S_…``).

    ``cpu_default`` (cores) and ``memory_default`` (bytes) None: nothing is requested for jobs that ask for nothing.
    ``gpus`` are counts by resource name, such as ``{"nvidia.com/gpu": 1}``, for every worker. ``user`` is what workers
    run as, whatever the image says, because nobody can look into an image before it runs.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    service_account: str | None = None
    image_pull_secrets: tuple[str, ...] | None = None
    image_pull_policy: Literal["IfNotPresent", "Never"] = "IfNotPresent"
    """``Never`` where there is no registry: a missing image is said at once. ``Always`` breaks images loaded by hand."""
    cpu_default: float | None = Field(None, gt=0)
    memory_default: Bytes | None = None
    ephemeral_storage: Bytes | None = None
    """Requested, and the limit, of a worker's disk: its /tmp, its home, its log. None: as much as the node gives."""
    gpus: dict[str, int] = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    affinity: dict[str, Any] = Field(default_factory=dict)
    priority_class: str | None = None
    runtime_class: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    user: str = "10001:10001"
    pod_template: dict[str, Any] = Field(default_factory=dict)
    """Laid over every worker's pod, as a strategic merge patch is: what nobody foresaw. It cannot weaken ``restricted``."""
    active_deadline_s: Seconds = 7 * DAY_S
    """The last resort for workers of jobs without a time-out: the kubelet ends a pod that is older."""
    termination_grace_s: int = Field(30, ge=1, le=3600)
    """How long the agent has when somebody else ends the pod: kubectl delete, a drain of the node."""
    unschedulable_s: float | None = Field(None, ge=0)
    """How long a pod may be unschedulable before its job fails. None: as long as ``timeouts.provision_s`` of the job; 0:
    not at all.
    """
    server_service: str = "hodei-worker-manager"
    """In a cluster: the service of worker-manager, in our own namespace, or ``name.namespace``."""
    call_timeout_s: Seconds = 15.0

    @field_validator("namespace", "service_account", "priority_class", "runtime_class", "server_service")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError("is not a name of Kubernetes': lower-case letters, digits, - and .")
        return value

    @field_validator("image_pull_secrets")
    @classmethod
    def _names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            cls._a_name(name)
        return value

    @field_validator("user")
    @classmethod
    def _numbers_and_not_root(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9][0-9]{0,9}:[1-9][0-9]{0,9}", value):
            raise ValueError(
                "name a user and a group by their numbers, neither of them root's, such as 10001:10001"
            )
        return value

    @field_validator("gpus")
    @classmethod
    def _counts(cls, value: dict[str, int]) -> dict[str, int]:
        for name, count in value.items():
            if "/" not in name or not _KEY.fullmatch(name) or count < 1:
                raise ValueError("is a count by the name of a resource, such as nvidia.com/gpu: 1")
        return value

    @field_validator("labels", "node_selector")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = [f"{key}={text}" for key, text in value.items() if not is_label(key, text)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: not a label that Kubernetes takes")
        return value

    @field_validator("labels", "annotations")
    @classmethod
    def _free(cls, value: dict[str, str]) -> dict[str, str]:
        refuse_reserved(value)
        return value

    @model_validator(mode="after")
    def _template_fits(self) -> KubernetesConfig:
        """A template is tried on a pod as it will be: what it breaks is said now, not at the first job."""
        if self.pod_template:
            from hodei.providers.kubernetes import pod, restricted

            try:
                overlay.check(self.pod_template)
                broken = restricted.violations(pod.sample(self))
            except (AttributeError, KeyError, TypeError) as error:
                raise ValueError("pod_template is not shaped as a pod is") from error
            if broken:
                raise ValueError(
                    f"pod_template: {'; '.join(broken)}: workers run under Pod Security `restricted`"
                )
        return self

    @property
    def user_id(self) -> int:
        return int(self.user.partition(":")[0])

    @property
    def group_id(self) -> int:
        return int(self.user.partition(":")[2])


def is_label(key: str, value: str) -> bool:
    """Whether Kubernetes takes this as a label."""
    return _KEY.fullmatch(key) is not None and _VALUE.fullmatch(value) is not None


def is_reserved(key: str) -> bool:
    """Whether a label or annotation of this name is the platform's own."""
    return key == RESERVED[0] or key.startswith(RESERVED[1])


def refuse_reserved(keys: Iterable[str]) -> None:
    """Raises ValueError for the platform's own labels."""
    if any(is_reserved(key) for key in keys):
        raise ValueError(f"{RESERVED[0]} and what begins with {RESERVED[1]} are the platform's own")
