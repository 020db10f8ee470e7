"""Where a saga is, and its audit trail: written in one statement, so that one never is without the other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.domain.states import STEP_TRANSITIONS, SagaState, StepState, sources
from hodei.storage.transaction import Transaction

LEASE_S = 15.0
"""How long a step that works outside the database is its runner's without a renewal (renewed every third of it)."""

NUDGE_S = 20.0
"""How long a published stretch may show no progress before the clock looks at it."""


@dataclass(frozen=True)
class Audit:
    """One line of a saga's audit trail."""

    event_type: str
    message: str
    step_name: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)


def advance(
    tx: Transaction,
    saga_id: UUID,
    state: SagaState,
    *audits: Audit,
    lease_owner: str | None = None,
    waiting_until: datetime | None = None,
    failure: Failure | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Set the saga's state, its lease or deadline, and append to its audit trail. The caller holds its row."""
    tx.execute(
        "saga_advance",
        id=saga_id,
        state=state.value,
        lease_owner=lease_owner,
        lease_s=LEASE_S if lease_owner else None,
        waiting_until=waiting_until,
        nudge_s=LEASE_S + 1 if lease_owner else NUDGE_S,
        progressed=bool(audits),
        error_code=failure.code if failure else None,
        error_message=failure.message if failure else None,
        metadata=metadata or {},
        events=json.dumps([asdict(audit) for audit in audits], default=str),
    )


def set_step(
    tx: Transaction,
    saga_id: UUID,
    step_name: str,
    state: StepState,
    output: dict[str, Any] | None = None,
    *,
    started_at: datetime | None = None,
    error_message: str | None = None,
) -> None:
    """Move a step, if it may go there from where it is; one that is there already stays."""
    allowed = sources(STEP_TRANSITIONS, state)
    if state is StepState.COMPLETED:
        allowed = [*allowed, StepState.PENDING.value]  # begun and done in one transaction
    tx.execute(
        "step_set",
        saga_id=saga_id,
        step_name=step_name,
        state=state.value,
        from_states=[*allowed, state.value],
        output=output or {},
        error_message=error_message,
        retried=0,
        started_at=started_at,
    )
