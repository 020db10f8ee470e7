"""The kinds of sagas there are."""

from __future__ import annotations

from hodei.ports import Platform
from hodei.sagas.cancellation import Cancellation
from hodei.sagas.cleanup import Cleanup
from hodei.sagas.engine import Engine
from hodei.sagas.execution import Execution
from hodei.sagas.provisioning import Provisioning
from hodei.sagas.recovery import Recovery
from hodei.sagas.timeout import Timeout

SAGA_TYPES = (Provisioning(), Execution(), Recovery(), Cancellation(), Timeout(), Cleanup())


def engine(platform: Platform) -> Engine:
    """An engine over the platform. Cheap: it keeps nothing but the name of its leases."""
    return Engine(platform, SAGA_TYPES)
