"""The kinds of sagas there are."""

from __future__ import annotations

from hodei.ports import Platform
from hodei.sagas.engine import Engine
from hodei.sagas.execution import Execution
from hodei.sagas.provisioning import Provisioning

SAGA_TYPES = (Provisioning(), Execution())


def engine(platform: Platform) -> Engine:
    """An engine over the platform. Cheap: it keeps nothing but the name of its leases."""
    return Engine(platform, SAGA_TYPES)
