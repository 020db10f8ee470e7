"""The platform's settings: read once, at start, from ``HODEI_*`` variables into one frozen object.

An unknown ``HODEI_*`` variable is a mistake: servers stop with a suggestion, the CLI warns. Nothing else in the platform
reads the environment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from hodei.errors import ConfigurationError

PREFIX = "HODEI_"
NOT_SETTINGS = frozenset(
    {
        "URL",
        "PATIENCE",
        "IMAGE",
        "E2E_DOCKER",
        "K8S_TEST",
        "JOB_ID",
        "EXECUTION_ID",
        "ATTEMPT",
        "OUTPUT",
        "SERVER",
        "TOKEN",
        "WORKER_ID",
    }
)
"""Known, and not the servers': the CLI's address and patience, Compose's image, the tests' switches, jobs' and agents' own."""

SECRET = frozenset({"database_url", "redis_url", "api_token", "secret_key", "flower_basic_auth"})
"""Values that are in no message: a URL may hold a password."""

_KUBERNETES_INJECTED = re.compile(
    r"^[A-Z0-9_]+_(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)$"
)
_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "b": 1, "k": 1000, "kb": 1000, "ki": 1024, "kib": 1024, "m": 10**6, "mb": 10**6, "mi": 1024**2,
          "mib": 1024**2, "g": 10**9, "gb": 10**9, "gi": 1024**3, "gib": 1024**3}  # fmt: skip


def _quantity(units: Mapping[str, float], what: str) -> BeforeValidator:
    def parse(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", value)
        if match is None or match[2].lower() not in units:
            raise ValueError(f"is not {what}")
        return float(match[1]) * units[match[2].lower()]

    return BeforeValidator(parse)


Seconds = Annotated[float, _quantity(_SECONDS, "a duration such as 30, 30s or 5m"), Field(gt=0)]
Bytes = Annotated[int, _quantity(_BYTES, "a size such as 1048576 or 256MiB"), Field(gt=0)]
Switch = Literal["auto", "1", "0"]


def _switch(value: Any) -> Any:
    text = str(value).strip().lower()
    return {"true": "1", "yes": "1", "on": "1", "false": "0", "no": "0", "off": "0"}.get(text, text)


class Settings(BaseSettings):
    """Everything that can be set; see ``docs/reference/settings.md`` for the meanings."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: str | None = Field(None, repr=False)
    redis_url: str | None = Field(None, repr=False)
    orchestrator_port: int = Field(8080, ge=0, le=65535)
    scheduler_port: int = Field(8081, ge=0, le=65535)
    worker_manager_port: int = Field(8082, ge=0, le=65535)
    bind: str = "127.0.0.1"
    server_host: str | None = None
    agent_bind: str | None = None
    worker_image: str = "hodei-jobs-worker:latest"
    docker_network: str | None = None
    docker_enabled: Annotated[Switch, BeforeValidator(_switch)] = "auto"
    kubernetes_enabled: Annotated[Switch, BeforeValidator(_switch)] = "auto"
    process_enabled: bool | None = None
    provider_access: bool = True
    provisioning_enabled: bool = True
    job_controller_enabled: bool = True
    api_token: str | None = Field(None, repr=False)
    allow_unauthenticated: bool = False
    dev_mode: bool = False
    allowed_origins: str = ""
    allowed_hosts: str = ""
    k8s_kubeconfig: Path | None = None
    k8s_context: str | None = None
    k8s_namespace: str = "hodei-jobs-workers"
    k8s_service_account: str = "hodei-jobs-worker"
    k8s_image_pull_secret: str | None = None
    log_dir: Path = Path("/tmp/hodei-logs")
    log_max_bytes: Bytes = 1024**3
    log_retention: Seconds = 7 * 86_400.0
    log_spool_bytes: Bytes = 256 * 1024**2
    heartbeat_interval: Seconds = 5.0
    worker_lost_after: Seconds = 30.0
    worker_give_up_after: Seconds = 300.0
    otp_ttl: Seconds = 900.0
    secret_key: str | None = Field(None, repr=False)
    data_dir: Path | None = None
    controller_threads: int = Field(4, ge=1, le=64)
    step_limit: Seconds = 180.0
    http_threads: int = Field(1400, ge=8, le=10_000)
    flower_port: int = Field(5555, ge=0, le=65535)
    flower_basic_auth: str | None = Field(None, repr=False)
    metrics_port: int = Field(0, ge=0, le=65535)
    log_format: Literal["auto", "json", "console"] = "auto"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
        )  # the environment comes through `load_settings`, which knows whose variables are whose

    @field_validator("database_url")
    @classmethod
    def _postgres_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        scheme, separator, rest = value.partition("://")
        if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg2"}:
            raise ValueError("is not a Postgres URL such as postgresql://user:password@host:5432/hodei_jobs")
        return f"postgresql+psycopg2://{rest}"

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str | None) -> str | None:
        if value is not None and value.partition("://")[0] not in {"redis", "rediss", "unix", "redis+socket"}:
            raise ValueError("is not a Redis URL such as redis://127.0.0.1:6379/0")
        return value

    @field_validator("flower_basic_auth")
    @classmethod
    def _credentials(cls, value: str | None) -> str | None:
        user, separator, password = (value or "").partition(":")
        if value is not None and not (user and separator and password):
            raise ValueError("is not user:password")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.worker_give_up_after < self.worker_lost_after:
            raise ValueError("HODEI_WORKER_GIVE_UP_AFTER must not be below HODEI_WORKER_LOST_AFTER")
        if self.worker_lost_after < 2 * self.heartbeat_interval:
            raise ValueError("HODEI_WORKER_LOST_AFTER must be at least twice HODEI_HEARTBEAT_INTERVAL")
        return self

    @property
    def process_provider(self) -> bool:
        """Whether processes on this machine may be workers: as was said, else only in dev mode."""
        return self.dev_mode if self.process_enabled is None else self.process_enabled

    @property
    def lease_s(self) -> float:
        """How long an agent goes on without an answer before it kills its child.

        Longer than ``worker_give_up_after`` by as much again: an agent cannot tell our own downtime from a cut of its network,
        and five minutes of the one must end no job. A worker that is given up is ended by its provider, not by its lease.
        """
        return 2 * self.worker_give_up_after

    @property
    def lease_over_s(self) -> float:
        """After so much silence an agent has killed its child by its own clock, whatever its last calls brought it."""
        return self.lease_s + max(6 * self.heartbeat_interval, 0.1 * self.worker_give_up_after)


def load_settings(
    environment: Mapping[str, str] | None = None, *, generic_database_url: bool = True, **overrides: Any
) -> Settings:
    """Read the settings. Raises ConfigurationError, naming the variable, when one is unknown or not valid.

    ``generic_database_url``: ``DATABASE_URL`` is used where ``HODEI_DATABASE_URL`` is not set.
    """
    unknown = unknown_variables(os.environ if environment is None else environment)
    if unknown:
        raise ConfigurationError(" ".join(unknown), field=unknown[0].split()[0])
    source = dict(os.environ if environment is None else environment)
    if generic_database_url and not source.get("HODEI_DATABASE_URL") and source.get("DATABASE_URL"):
        overrides.setdefault("database_url", source["DATABASE_URL"])
    return _read(source, overrides)


def _read(source: Mapping[str, str], overrides: dict[str, Any]) -> Settings:
    given = {
        name: source[PREFIX + name.upper()]
        for name in Settings.model_fields
        if source.get(PREFIX + name.upper())
        and name not in overrides
        and not _is_injected(PREFIX + name.upper(), source[PREFIX + name.upper()])
    }
    try:
        return Settings(**(given | overrides))
    except ValidationError as error:
        raise _readable(error) from None


def _readable(error: ValidationError) -> ConfigurationError:
    sentences = []
    variable = None
    for item in error.errors():
        reason = item["msg"].removeprefix("Value error, ")
        if item["loc"]:
            variable = PREFIX + str(item["loc"][0]).upper()
            shown = "" if item["loc"][0] in SECRET else f"={item['input']!r}"
            sentences.append(f"{variable}{shown}: {reason}.")
        else:
            sentences.append(f"{reason}.")
    return ConfigurationError(" ".join(sentences), field=variable)


def _is_injected(variable: str, value: str) -> bool:
    """Whether Kubernetes set it for one of its services: a service called hodei-x gives HODEI_X_PORT=tcp://…."""
    if _KUBERNETES_INJECTED.match(variable) is None:
        return False
    return "_SERVICE_" in variable or re.search(r"_PORT_\d+_", variable) is not None or "://" in value


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each ``HODEI_*`` variable that is not a setting, with the nearest one that is."""
    known = {name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    sentences = []
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX)
        if not variable.startswith(PREFIX) or name in known or _is_injected(variable, environment[variable]):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = (
            f"did you mean {PREFIX}{near[0]}?"
            if near
            else "unset it; docs/reference/settings.md lists them all."
        )
        sentences.append(f"{variable} is not a setting: {hint}")
    return sentences
