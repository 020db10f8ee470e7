"""The engine: the only code that moves a saga.

Whoever calls :meth:`Engine.run_step` or :meth:`Engine.undo_step` has been told to look; the engine looks at the
saga's row under its lock and does what is due, or nothing. A step's change of rows, its COMPLETED and its audit
events are one transaction.
"""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from hodei.domain.states import SagaState, StepState
from hodei.ports import Platform
from hodei.sagas.audit import Audit, Move, advance
from hodei.sagas.lease import Lease
from hodei.sagas.steps import Done, ExternalStep, Saga, SagaType, Step, StepCut, StepFailed, Wait
from hodei.storage.transaction import Row, Transaction

log = structlog.get_logger(__name__)

OPEN = (SagaState.PENDING, SagaState.IN_PROGRESS)
CUT = "cut"
"""Where a saga's metadata says why it was cut."""


def new_owner() -> str:
    """A name for this process's leases."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Engine:
    """Starts, runs, resumes and undoes sagas for one process."""

    def __init__(self, platform: Platform, types: tuple[SagaType, ...]) -> None:
        self.platform = platform
        self.types = {saga_type.name: saga_type for saga_type in types}
        self.owner = new_owner()

    # --- starting and resuming -------------------------------------------------------------------------------------

    def start(
        self,
        tx: Transaction,
        saga_type: str,
        *,
        saga_id: UUID,
        subject_id: UUID,
        correlation_id: UUID,
        actor: str,
        metadata: dict[str, Any],
    ) -> bool:
        """Write the saga down and have it run after the commit. False when it is there already: nothing is done then."""
        kind = self.types[saga_type]
        inserted = tx.execute(
            "saga_insert",
            id=saga_id,
            saga_type=saga_type,
            subject_id=subject_id,
            correlation_id=correlation_id,
            actor=actor,
            metadata=metadata,
        )
        if not inserted:
            return False
        tx.execute("saga_insert_steps", saga_id=saga_id, names=[step.name for step in kind.steps])
        advance(tx, saga_id, SagaState.PENDING, Audit("SagaStarted", f"{saga_type} was started by {actor}."))
        stretch = kind.stretch_from(kind.steps[0].name)
        tx.after_commit(lambda: self.platform.courier.run_saga(saga_type, saga_id, stretch))
        return True

    def wake(self, tx: Transaction, saga_type: str, saga_id: UUID, step_name: str) -> None:
        """What this step of the saga waits for is there: have it looked at after the commit.

        Takes no lock of the saga, so it may be called while rows are held that a step would take after the saga's.
        """
        stretch = self.types[saga_type].stretch_from(step_name)
        tx.after_commit(lambda: self.platform.courier.run_saga(saga_type, saga_id, stretch))

    def resume(self, saga_id: UUID) -> None:
        """What the saga waited for may be there: have its next stretch run. Costs one look; harmless when it is not there."""
        with self.platform.database.begin() as tx:
            self.publish_due(tx, saga_id)

    def go_on(self, saga_type: str, saga_id: UUID, step_name: str) -> None:
        """The stretch ended with this step, which had nothing to wait for: have those after it run, if there are any."""
        steps = [step.name for step in self.types[saga_type].steps]
        after = steps[steps.index(step_name) + 1 :]
        if after:
            self.platform.courier.run_saga(saga_type, saga_id, self.types[saga_type].stretch_from(after[0]))

    def publish_due(self, tx: Transaction, saga_id: UUID) -> None:
        """Publish whatever is due of this saga after the commit: a stretch of steps, or of undoings."""
        row = _lock(tx, saga_id)
        if row is None or row.leased:
            return
        kind = self.types[row.saga_type]
        if row.state in OPEN:
            due = _next_step(row)
            if due is not None:
                stretch = kind.stretch_from(due["name"])
                tx.after_commit(lambda: self.platform.courier.run_saga(kind.name, saga_id, stretch))
        elif row.state == SagaState.COMPENSATING:
            undoings = _to_undo(kind, row)
            if undoings:
                tx.after_commit(lambda: self.platform.courier.undo_saga(kind.name, saga_id, undoings))
            else:
                self._finish_undoing(tx, kind, row)

    # --- running ---------------------------------------------------------------------------------------------------

    def run_step(self, saga_id: UUID, step_name: str) -> bool:
        """Look at this step of the saga and do it if it is due. True: the step after it may be looked at now."""
        try:
            return self._run_step(saga_id, step_name)
        except (StepFailed, StepCut) as stopped:  # what it had changed is rolled back
            with self.platform.database.begin() as tx:
                row = _lock(tx, saga_id)
                due = None if row is None or row.state not in OPEN or row.leased else _next_step(row)
                if row is not None and due is not None and due["name"] == step_name:
                    kind = self.types[row.saga_type]
                    self._fail(tx, kind, row, kind.step(step_name), stopped)
            return False

    def _run_step(self, saga_id: UUID, step_name: str) -> bool:
        with ExitStack() as said, self.platform.database.begin() as tx:
            row = _lock(tx, saga_id)
            if row is None or row.state not in OPEN:
                return False
            said.enter_context(_about(row))
            kind = self.types[row.saga_type]
            due = _next_step(row)
            if due is None or _order(row, step_name) < due["order"]:
                return due is not None  # done before: this message came twice
            if due["name"] != step_name or row.leased:
                return False
            step = kind.step(step_name)
            if not isinstance(step, ExternalStep):
                return self._apply(tx, kind, row, step)
            owner = self._claim(tx, row, step)
        with _about(row):
            return self._act(kind, Saga.from_row(row), step, owner)

    def _apply(self, tx: Transaction, kind: SagaType, row: Row, step: Step) -> bool:
        answer = step.apply(self.platform, tx, Saga.from_row(row))
        return self._completed(tx, kind, row, step, answer)

    def _new_lease(self) -> str:
        """A name for one claim: two threads of this process are two runners."""
        return f"{self.owner}/{uuid.uuid4().hex[:8]}"

    def _claim(self, tx: Transaction, row: Row, step: Step) -> str:
        owner = self._new_lease()
        audits = []
        if _state(row, step.name) == StepState.PENDING:
            audits.append(Audit("StepStarted", f"{step.name} was started.", step.name))
        move = Move(step_name=step.name, state=StepState.IN_PROGRESS, started_at=row.now)
        advance(tx, row.id, SagaState.IN_PROGRESS, *audits, move=move, lease_owner=owner)
        return owner

    def _act(self, kind: SagaType, saga: Saga, step: ExternalStep, owner: str) -> bool:
        try:
            with Lease(self.platform.database, saga.id, owner):
                answer = step.act(self.platform, saga)
            return self._record(kind, saga.id, step, owner, answer)
        except (StepFailed, StepCut) as stopped:  # what `record` had changed is rolled back
            with self.platform.database.begin() as tx:
                row = _lock_for(tx, saga.id, owner)
                if row is not None:
                    self._fail(tx, kind, row, step, stopped)
            return False

    def _record(
        self, kind: SagaType, saga_id: UUID, step: ExternalStep, owner: str, answer: Done | Wait
    ) -> bool:
        with self.platform.database.begin() as tx:
            row = _lock_for(tx, saga_id, owner)
            if row is None:
                log.warning("saga.lease_lost", saga_id=str(saga_id), step=step.name)
                return False
            step.record(self.platform, tx, Saga.from_row(row), answer)
            return self._completed(tx, kind, row, step, answer)

    def _completed(self, tx: Transaction, kind: SagaType, row: Row, step: Step, answer: Done | Wait) -> bool:
        audits = []
        if _state(row, step.name) == StepState.PENDING:
            audits.append(Audit("StepStarted", f"{step.name} was started.", step.name))
        if isinstance(answer, Wait):
            advance(
                tx,
                row.id,
                SagaState.IN_PROGRESS,
                *audits,
                move=Move(
                    step_name=step.name,
                    state=StepState.IN_PROGRESS,
                    output=answer.output,
                    started_at=row.now,
                ),
                waiting_until=answer.until,
                metadata=answer.metadata,
            )
            return False
        move = Move(step_name=step.name, state=StepState.COMPLETED, output=answer.output, started_at=row.now)
        audits.append(Audit("StepCompleted", f"{step.name} was completed.", step.name, answer.output))
        last = step.name == kind.steps[-1].name
        if last:
            audits.append(Audit("SagaCompleted", f"{kind.name} was completed."))
        advance(tx, row.id, SagaState.COMPLETED if last else SagaState.IN_PROGRESS, *audits, move=move)
        return not last

    # --- undoing ---------------------------------------------------------------------------------------------------

    def _fail(
        self, tx: Transaction, kind: SagaType, row: Row, step: Step, stopped: StepFailed | StepCut
    ) -> None:
        failure = stopped.failure if isinstance(stopped, StepFailed) else None
        message = str(stopped)
        code = failure.code if failure else None
        with _about(row):
            log.info("step.failed", saga=kind.name, step=step.name, code=code, reason=message)
        audits = []
        if _state(row, step.name) == StepState.PENDING:
            audits.append(Audit("StepStarted", f"{step.name} was started.", step.name))
        move = Move(step_name=step.name, state=StepState.FAILED, error_message=message, started_at=row.now)
        audits.append(
            Audit("StepFailed", message, step.name, {"code": failure.code})
            if failure
            else Audit("StepCut", message, step.name)
        )
        audits.append(Audit("CompensationStarted", f"{kind.name} is being undone: {message}"))
        advance(
            tx,
            row.id,
            SagaState.COMPENSATING,
            *audits,
            move=move,
            failure=failure,
            metadata={} if failure else {CUT: message},
        )
        after = _lock(tx, row.id)
        if after is None:
            return
        undoings = _to_undo(kind, after)
        if undoings:
            tx.after_commit(lambda: self.platform.courier.undo_saga(kind.name, row.id, undoings))
        else:
            self._finish_undoing(tx, kind, after)

    def undo_step(self, saga_id: UUID, step_name: str) -> bool:
        """Undo this step if its turn has come. True: the one before it may be undone now."""
        with ExitStack() as said, self.platform.database.begin() as tx:
            row = _lock(tx, saga_id)
            if row is None or row.state != SagaState.COMPENSATING or row.leased:
                return False
            said.enter_context(_about(row))
            kind = self.types[row.saga_type]
            undoings = _to_undo(kind, row)
            if step_name not in undoings:
                return bool(undoings)
            if undoings[0] != step_name:
                return False
            step = kind.step(step_name)
            if not isinstance(step, ExternalStep):
                return self._undone(tx, kind, row, step)
            owner = self._new_lease()
            move = Move(step_name=step_name, state=StepState.COMPENSATING)
            advance(tx, saga_id, SagaState.COMPENSATING, move=move, lease_owner=owner)
        saga = Saga.from_row(row)
        with _about(row):
            with Lease(self.platform.database, saga_id, owner, release_on_error=True):
                step.act_undo(self.platform, saga)
            with self.platform.database.begin() as tx:
                row = _lock(tx, saga_id)
                if row is None or row.state != SagaState.COMPENSATING or row.lease_owner != owner:
                    return False
                return self._undone(tx, kind, row, step)

    def _undone(self, tx: Transaction, kind: SagaType, row: Row, step: Step) -> bool:
        step.undo(self.platform, tx, Saga.from_row(row))
        advance(
            tx,
            row.id,
            SagaState.COMPENSATING,
            Audit("StepCompensated", f"{step.name} was undone.", step.name),
            move=Move(step_name=step.name, state=StepState.COMPENSATED),
        )
        after = _lock(tx, row.id)
        if after is None:
            return False
        if _to_undo(kind, after):
            return True
        self._finish_undoing(tx, kind, after)
        return False

    def _finish_undoing(self, tx: Transaction, kind: SagaType, row: Row) -> None:
        saga = Saga.from_row(row)
        kind.undone(self.platform, tx, saga)
        if saga.failure is None:
            reason = saga.metadata.get(CUT, "it was cut short")
            audit = Audit("SagaCancelled", f"{kind.name} was undone: {reason}")
            advance(tx, row.id, SagaState.CANCELLED, audit, metadata={"outcome": "cancelled"})
            return
        audit = Audit("SagaFailed", f"{kind.name} was undone: {saga.failure.message}")
        advance(tx, row.id, SagaState.FAILED, audit, metadata={"outcome": "compensated"})


def wake_sagas_of_job(platform: Platform, tx: Transaction, job_id: UUID, *types: str) -> None:
    """Have the job's open sagas of these types looked at after the commit, each from its next step on. Takes no lock."""
    for row in tx.rows("sagas_open_of_job", job_id=job_id, types=list(types)):
        tx.after_commit(partial(platform.courier.run_saga, row.saga_type, row.id, row.steps))


def _about(row: Row) -> AbstractContextManager[object]:
    """What is said in the block is about this saga, and whose it is: a job's, or a worker's that was asked for by hand."""
    more = {"worker_id": row.metadata["worker_id"]} if row.metadata.get("worker_id") else {}
    return structlog.contextvars.bound_contextvars(
        correlation_id=str(row.correlation_id), saga_id=str(row.id), **more
    )


def _lock(tx: Transaction, saga_id: UUID) -> Row | None:
    """The saga's row, held, with its steps as the holder before left them; None when there is none."""
    row = tx.row("saga_lock", id=saga_id)
    return tx.row("saga_lock", id=saga_id) if row is not None and row.stale else row


def _lock_for(tx: Transaction, saga_id: UUID, owner: str) -> Row | None:
    """The saga's row, held; None when this runner's claim of its step is worth nothing any more."""
    row = _lock(tx, saga_id)
    return (
        row if row is not None and row.state == SagaState.IN_PROGRESS and row.lease_owner == owner else None
    )


def _next_step(row: Row) -> dict[str, Any] | None:
    """The first step that is not done."""
    return next((step for step in row.steps if step["state"] != StepState.COMPLETED), None)


def _order(row: Row, name: str) -> int:
    return next(step["order"] for step in row.steps if step["name"] == name)


def _state(row: Row, name: str) -> str:
    return next(step["state"] for step in row.steps if step["name"] == name)


def _to_undo(kind: SagaType, row: Row) -> list[str]:
    """The steps that still have to be undone, last first: what was done or begun and leaves something behind."""
    begun = {StepState.COMPLETED, StepState.FAILED, StepState.COMPENSATING, StepState.IN_PROGRESS}
    return [
        step["name"]
        for step in reversed(row.steps)
        if step["state"] in begun and kind.step(step["name"]).undoable
    ]
