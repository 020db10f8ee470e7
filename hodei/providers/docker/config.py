"""What can be set for a Docker provider, in ``provider_configs.config``."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hodei.providers.configuration import ProviderConfig
from hodei.settings import Bytes, Seconds

RESERVED_LABELS = "hodei."
RESERVED_TARGETS = tuple(PurePosixPath(path) for path in ("/opt/hodei", "/proc", "/sys", "/dev"))
"""Where nothing may be mounted: the agent's own folder, and the kernel's."""

_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")


class Mount(BaseModel):
    """Something of the Docker host that every worker of the provider sees: a cache, a socket, data.

    ``source`` is an absolute path on the Docker host, which must be there, or the name of a volume, which Docker makes when it
    is not. ``target`` is where workers see it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    read_only: bool = False

    @property
    def is_volume(self) -> bool:
        """Whether the source is a volume of Docker's, not a path."""
        return not self.source.startswith("/")

    @field_validator("source")
    @classmethod
    def _a_path_or_a_volume(cls, value: str) -> str:
        path = value.startswith("/") and "\0" not in value and ".." not in PurePosixPath(value).parts
        if not path and not _VOLUME.fullmatch(value):
            raise ValueError("is neither an absolute path on the Docker host nor the name of a volume")
        return value

    @field_validator("target")
    @classmethod
    def _a_place_of_its_own(cls, value: str) -> str:
        target = PurePosixPath(value)
        if not value.startswith("/") or "\0" in value or ".." in target.parts or target == PurePosixPath("/"):
            raise ValueError("is not an absolute path below / in the container, such as /cache")
        if any(
            target == kept or kept in target.parents or target in kept.parents for kept in RESERVED_TARGETS
        ):
            raise ValueError(
                f"is the agent's or the kernel's own: mount elsewhere than {_or(RESERVED_TARGETS)}"
            )
        return str(target)


def _or(paths: tuple[PurePosixPath, ...]) -> str:
    return ", ".join(map(str, paths[:-1])) + f" or {paths[-1]}"


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
    mounts: tuple[Mount, ...] = ()
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

    @field_validator("mounts")
    @classmethod
    def _one_for_each_place(cls, value: tuple[Mount, ...]) -> tuple[Mount, ...]:
        targets = [mount.target for mount in value]
        twice = sorted({target for target in targets if targets.count(target) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is the target of more than one mount")
        return value

    @field_validator("labels")
    @classmethod
    def _free_labels(cls, value: dict[str, str]) -> dict[str, str]:
        if any(name.startswith(RESERVED_LABELS) for name in value):
            raise ValueError(f"labels that begin with {RESERVED_LABELS} are the platform's own")
        return value
