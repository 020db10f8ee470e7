"""What can be set for a Docker provider, in ``provider_configs.config``."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from hodei.providers.configuration import ProviderConfig
from hodei.settings import Bytes, Seconds

RESERVED_LABELS = "hodei."


class DockerConfig(ProviderConfig):
    """Defaults and limits of the containers.

    ``docker_host`` None: ``DOCKER_HOST``, else the first of Docker's usual sockets that is there.
    ``cpu_default`` and ``memory_default`` None: no limit for jobs that ask for none. ``user`` is used unless
    an image brings one that is not root.
    """

    docker_host: str | None = None
    network: str = "bridge"
    cpu_default: float | None = Field(None, gt=0)
    memory_default: Bytes | None = None
    pids_limit: int = Field(1024, ge=16)
    user: str = "10001:10001"
    labels: dict[str, str] = Field(default_factory=dict)
    log_max_bytes: Bytes = 16 * 1024**2
    """Of the container's own log, which repeats what the platform stores; two files of this size are kept."""
    call_timeout_s: Seconds = 30.0
    pull_stall_s: Seconds = 120.0
    pull_timeout_s: Seconds = 1800.0

    @field_validator("user")
    @classmethod
    def _not_root(cls, value: str) -> str:
        name = value.partition(":")[0]
        if name == "root" or not name.strip("0"):
            raise ValueError("workers do not run as root; name another user, such as 10001:10001")
        return value

    @field_validator("network")
    @classmethod
    def _a_network(cls, value: str) -> str:
        if value == "none" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]*", value):
            raise ValueError("name a Docker network through which workers reach the platform, such as bridge")
        return value

    @field_validator("labels")
    @classmethod
    def _free_labels(cls, value: dict[str, str]) -> dict[str, str]:
        if any(name.startswith(RESERVED_LABELS) for name in value):
            raise ValueError(f"labels that begin with {RESERVED_LABELS} are the platform's own")
        return value
