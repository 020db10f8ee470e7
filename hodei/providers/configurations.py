"""Which configuration each type of provider takes, checked without opening one, and how it is shown to people.

Only the adapters' models are imported here, never their clients.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import ValidationError

from hodei.domain.self_hosted import SELF_HOSTED
from hodei.errors import InvalidInput
from hodei.providers.configuration import ProviderConfig

CONFIGURABLE = ("docker", "kubernetes", "process")
"""The types of provider that people may add. The fake is for tests, and self-hosted workers need none."""

HIDDEN = "***"
DEEPEST = 32
_SECRET_NAME = re.compile(r"password|passwd|secret|token|credential|private|api_?key|auth", re.IGNORECASE)
_NAMES_OF_SECRETS = frozenset(
    {"image_pull_secrets", "imagePullSecrets", "secretName", "secretKeyRef", "secretRef"}
)
"""Keys that tell which secret is meant, not what it is."""
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_LARGEST_WHOLE = 2**63


def model_of(provider_type: str) -> type[ProviderConfig]:
    """The model of the type's configuration. Raises KeyError for a type that has none."""
    if provider_type == "docker":
        from hodei.providers.docker.config import DockerConfig

        return DockerConfig
    if provider_type == "kubernetes":
        from hodei.providers.kubernetes.config import KubernetesConfig

        return KubernetesConfig
    if provider_type == "process":
        from hodei.providers.process.config import ProcessConfig

        return ProcessConfig
    if provider_type == "fake":
        from hodei.providers.fake.config import FakeConfig

        return FakeConfig
    if provider_type == SELF_HOSTED:
        return ProviderConfig
    raise KeyError(provider_type)


def check_config(provider_type: str, document: dict[str, Any]) -> None:
    """Have the adapter's own model look at the document. Raises InvalidInput, which names the first key at fault.

    The values at fault are not in the message: they may be secret.
    """
    _storable(document, "config", DEEPEST)
    model = model_of(provider_type)
    try:
        model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(["config", *(str(part) for part in first["loc"])])
        raise InvalidInput(_sentence(first, field, model), field=field) from None


def _sentence(error: Any, field: str, model: type[ProviderConfig]) -> str:
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"{field} is not known here; known are: {', '.join(sorted(model.model_fields))}."
    if error["type"] == "extra_forbidden":
        return f"{field} is not known here."
    return f"{field}: {error['msg'].removeprefix('Value error, ')}."


def shown(document: dict[str, Any]) -> dict[str, Any]:
    """The document as people may see it: what looks like a secret is hidden, its name stays."""
    return {key: _shown(key, value) for key, value in document.items()}


def _shown(key: str, value: Any) -> Any:
    if key in _NAMES_OF_SECRETS or isinstance(value, bool) or value is None:
        return value
    if _SECRET_NAME.search(key):
        return HIDDEN
    if isinstance(value, dict):
        return shown(value)
    if isinstance(value, list):
        return [_shown_variable(item) if isinstance(item, dict) else _shown("", item) for item in value]
    return _USER_IN_URL.sub(HIDDEN, value) if isinstance(value, str) else value


def _shown_variable(item: dict[str, Any]) -> dict[str, Any]:
    """A thing with a name and a value is an environment's variable, whatever it holds."""
    hidden = {"value": HIDDEN} if {"name", "value"} <= item.keys() else {}
    return shown(item) | hidden


def _storable(value: Any, where: str, depth: int) -> None:
    """Raises InvalidInput for what JSON may hold and Postgres' ``jsonb``, or an adapter, does not."""
    if depth == 0:
        raise InvalidInput(f"config is nested deeper than {DEEPEST} levels.", field="config")
    if isinstance(value, str) and not _is_text(value):
        raise InvalidInput(f"{where} holds a NUL or half a character.", field=where)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{where} is not a number.", field=where)
    if isinstance(value, int) and not -_LARGEST_WHOLE <= value < _LARGEST_WHOLE:
        raise InvalidInput(f"{where} is out of all bounds.", field=where)
    if isinstance(value, dict):
        for key, inner in value.items():
            if not _is_text(key):
                raise InvalidInput(f"A key of {where} holds a NUL or half a character.", field=where)
            _storable(inner, f"{where}.{key}", depth - 1)
    if isinstance(value, list):
        for number, inner in enumerate(value):
            _storable(inner, f"{where}.{number}", depth - 1)


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
