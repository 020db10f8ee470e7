"""What can be set for a fake provider, in ``provider_configs.config``: where its fleet is, and what shall go
wrong."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from hodei.domain.causes import CAUSES
from hodei.providers.configuration import ProviderConfig

MISSING_IMAGES = "hang/"
"""Images with such names are missing until they were pulled."""

UNKNOWN_IMAGES = "nowhere/"
"""Images with such names are in no registry."""


class FakeConfig(ProviderConfig):
    """``socket`` None: a fleet of this data folder, started when it is first needed.

    ``start_failure`` is the code with which every start fails. ``connects`` False: agents never register.
    ``pull_s`` is how long a pull takes, None: until :meth:`FakeProvider.finish_pull`, or its time-out.
    """

    socket: Path | None = None
    start_delay_s: float = Field(0.0, ge=0)
    start_failure: str | None = None
    connects: bool = True
    pull_s: float | None = Field(0.0, ge=0)
    pull_timeout_s: float = Field(1800.0, gt=0)

    @field_validator("start_failure")
    @classmethod
    def _a_code(cls, value: str | None) -> str | None:
        if value is not None and value not in CAUSES:
            raise ValueError("is not a known error code")
        return value
