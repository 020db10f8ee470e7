"""What tasks and queues are called: an operator sees these names in Flower and ``celery inspect``."""

from __future__ import annotations

import re

DISPATCH = "hodei.dispatch"
STEPS = "hodei.steps"
INFRASTRUCTURE = "hodei.infrastructure"
PULLS = "hodei.pulls"
QUEUES = (DISPATCH, STEPS, INFRASTRUCTURE, PULLS)

LOOK = "dispatch.look"
DESTROY = "workers.destroy"
PULL = "images.pull"
ADVANCE = "pipelines.advance"

SLOW_STEPS = frozenset({"CreateInfrastructure", "CheckWorkerConnectivity", "CleanupUnhealthyWorkers"})


def step_task(saga_type: str, step: str) -> str:
    """``provisioning.create_infrastructure``."""
    return f"{saga_type.lower()}.{_snake(step)}"


def undo_task(saga_type: str, step: str) -> str:
    """``provisioning.undo.create_infrastructure``."""
    return f"{saga_type.lower()}.undo.{_snake(step)}"


def step_queue(step: str) -> str:
    """Where the step's task waits."""
    return INFRASTRUCTURE if step in SLOW_STEPS else STEPS


def key_prefix(deployment: str) -> str:
    """What every key of this deployment in Redis starts with."""
    return f"hodei:{deployment[:8]}:"


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
