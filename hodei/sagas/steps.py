"""What a step is, and what it may answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.storage.transaction import Row, Transaction

if TYPE_CHECKING:
    from hodei.ports import Platform


@dataclass(frozen=True, kw_only=True)
class Done:
    """The step did what it is for. ``output`` is kept with it and is there for the steps after it."""

    output: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The step waits for the outside world, until ``until`` at most; whoever brings the fact resumes the saga.

    ``metadata`` is merged into the saga's, so that those who bring the fact find it.
    """

    until: datetime
    output: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


class StepFailed(Exception):
    """The step cannot be done: the saga is undone from here."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class StepCut(Exception):
    """The saga is not wanted any more: it is undone from here, and is CANCELLED then. The message says why."""


@dataclass(frozen=True, kw_only=True)
class Saga:
    """The saga as a step sees it. ``outputs`` are those of its steps so far, by step name; ``now`` is the database's clock."""

    id: UUID
    saga_type: str
    subject_id: UUID
    correlation_id: UUID
    actor: str
    metadata: dict[str, Any]
    outputs: dict[str, dict[str, Any]]
    now: datetime
    failure: Failure | None = None

    @classmethod
    def from_row(cls, row: Row) -> Saga:
        failure = None
        if row.error_code:
            failure = Failure(code=row.error_code, message=row.error_message or "")
        return cls(
            id=row.id,
            saga_type=row.saga_type,
            subject_id=row.subject_id,
            correlation_id=row.correlation_id,
            actor=row.actor,
            metadata=row.metadata,
            outputs={step["name"]: step["output"] for step in row.steps},
            now=row.now,
            failure=failure,
        )

    def uuid(self, name: str) -> UUID:
        """A metadata value that is an id."""
        return UUID(self.metadata[name])


class Step:
    """A step whose work is a change of rows: it commits together with the step's own COMPLETED.

    ``apply`` may be called again after it answered Wait, and must then find out by the rows whether the fact is there.
    """

    name: ClassVar[str]
    waits: ClassVar[bool] = False
    undoable: ClassVar[bool] = False

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        """Do the step's work. Raises StepFailed."""
        raise NotImplementedError(self.name)

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """Undo it, as if it had never been; also when it was only half done."""
        raise NotImplementedError(self.name)


class ExternalStep(Step):
    """A step whose work is outside the database: claimed by a lease, done without a transaction, then recorded.

    ``act`` and ``act_undo`` may run again after a crash and must be idempotent.
    """

    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        """Do the work, holding no transaction. Raises StepFailed."""
        raise NotImplementedError(self.name)

    def record(self, platform: Platform, tx: Transaction, saga: Saga, answer: Done | Wait) -> None:
        """Write down what ``act`` did, in the transaction that completes the step. Raises StepFailed, StepCut."""

    def act_undo(self, platform: Platform, saga: Saga) -> None:
        """Undo the work, holding no transaction; raise to be asked again later."""

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """Write down that it is undone."""


class SagaType:
    """A saga's kind: its steps in order, and what follows when it is over."""

    name: ClassVar[str]
    steps: ClassVar[tuple[Step, ...]]

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def undone(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        """All is undone, in the transaction that makes the saga FAILED or CANCELLED: settle what it was for."""

    def stretch_from(self, name: str) -> list[str]:
        """The steps to run from this one up to and including the next one that waits for the outside world."""
        names: list[str] = []
        for step in self.steps:
            if names or step.name == name:
                names.append(step.name)
                if step.waits and step.name != name:
                    break
        return names
