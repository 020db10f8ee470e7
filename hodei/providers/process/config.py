"""What can be set for a process provider, in ``provider_configs.config``."""

from __future__ import annotations

from hodei.providers.configuration import ProviderConfig


class ProcessConfig(ProviderConfig):
    """``cgroups`` False: limits are refused and nothing is put in cgroups, even where that would work."""

    cgroups: bool = True
