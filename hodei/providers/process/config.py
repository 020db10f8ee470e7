"""What can be set for a process provider, in ``provider_configs.config``."""

from __future__ import annotations

from typing import Literal

from hodei.providers.configuration import ProviderConfig


class ProcessConfig(ProviderConfig):
    """``cgroups`` False: limits are refused and nothing is put in cgroups, even where that would work.

    ``hiding``, of the platform's own files from jobs: ``auto`` where the kernel allows it, and a warning where not;
    ``required``: no job is run where not; ``off``: never.
    """

    cgroups: bool = True
    hiding: Literal["auto", "required", "off"] = "auto"
