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

NUDGE_S = 60.0
"""How long a published stretch may show no progress before the clock looks at it: a queue that is only long is left alone.

When messages were lost for sure (the broker came back empty, a controller died) the clock does not wait for it.
"""


@dataclass(frozen=True)
class Audit:
    """One line of a saga's audit trail."""

    event_type: str
    message: str
    step_name: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Move:
    """A step's change of state. ``started_at`` and ``output`` are added to what it has."""

    step_name: str
    state: StepState
    output: dict[str, Any] = field(default_factory=dict)
    started_at: datetime | None = None
    error_message: str | None = None

    @property
    def from_states(self) -> list[str]:
        """Where the step may be now: a state before this one, this one, or one passed through in the same transaction."""
        before = sources(STEP_TRANSITIONS, self.state)
        if self.state in (StepState.COMPLETED, StepState.FAILED):
            before = [*before, StepState.PENDING.value]  # begun and ended at once
        if self.state is StepState.COMPENSATED:
            before = [*before, *sources(STEP_TRANSITIONS, StepState.COMPENSATING)]
        return [*before, self.state.value]


def advance(
    tx: Transaction,
    saga_id: UUID,
    state: SagaState,
    *audits: Audit,
    move: Move | None = None,
    lease_owner: str | None = None,
    waiting_until: datetime | None = None,
    failure: Failure | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Set the saga's state, its lease or deadline, move a step, and append to its audit trail. The caller holds its row."""
    moves = [asdict(move) | {"from_states": move.from_states}] if move else []
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
        moves=json.dumps(moves, default=str),
        events=json.dumps([asdict(audit) for audit in audits], default=str),
    )
