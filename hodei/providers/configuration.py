"""Reads the document in ``provider_configs.config``: every adapter has a frozen model of its own for it."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError


class ProviderConfig(BaseModel):
    """The base of the models: unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=ProviderConfig)


def read_config(model: type[Model], document: dict[str, Any] | None) -> Model:
    """Validate the document. Raises ProviderError (ERR_5007) with a sentence for each key at fault."""
    try:
        return model.model_validate(document or {})
    except ValidationError as error:
        sentences = [_sentence(item, model) for item in error.errors()]
        raise ProviderError(Failure(code="ERR_5007", message=" ".join(sentences))) from None


def _sentence(item: Any, model: type[ProviderConfig]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if not key:
        return f"config: {item['msg'].removeprefix('Value error, ')}."
    if item["type"] == "extra_forbidden" and len(item["loc"]) > 1:
        return f"config.{key} is not known here."
    if item["type"] == "extra_forbidden":
        return f"config.{key} is not known here; known are: {', '.join(sorted(model.model_fields))}."
    return f"config.{key}={item['input']!r}: {item['msg'].removeprefix('Value error, ')}."
