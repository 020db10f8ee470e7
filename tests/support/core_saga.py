"""A saga for tests: a change of rows, work outside, a wait, work outside. What it did is in ``hodei.effects``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from hodei.ports import Platform
from hodei.sagas.engine import Engine
from hodei.sagas.steps import Done, ExternalStep, Saga, SagaType, Step, StepFailed, Wait
from hodei.storage.transaction import Transaction
from support.core import Core, failure, fresh_id

STEPS = ["Write", "Make", "Await", "Finish"]


class Script:
    """What shall go wrong: ``fails_at`` a step's name; ``before``: called at each act with (step, verb)."""

    def __init__(self) -> None:
        self.fails_at: str | None = None
        self.acts: list[str] = []
        self.before: Callable[[str, str], None] = lambda step, verb: None

    def act(self, step: str, verb: str) -> None:
        self.acts.append(f"{verb} {step}")
        self.before(step, verb)
        if verb == "do" and self.fails_at == step:
            raise StepFailed(failure("ERR_5005"))


def effect(tx: Transaction, saga: Saga, kind: str) -> None:
    statement = "INSERT INTO hodei.effects (saga_id, kind) VALUES (:saga, :kind)"
    tx.connection.execute(text(statement), {"saga": saga.id, "kind": kind})


class _Named:
    def __init__(self, name: str, script: Script, *, undoable: bool = True) -> None:
        self.name = name  # type: ignore[misc]
        self.undoable = undoable  # type: ignore[misc]
        self.script = script


class RowStep(_Named, Step):
    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        self.script.act(self.name, "do")
        effect(tx, saga, f"do {self.name}")
        return Done(output={"by": self.name})

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        self.script.act(self.name, "undo")
        effect(tx, saga, f"undo {self.name}")


class OutsideStep(_Named, ExternalStep):
    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        self.script.act(self.name, "do")
        return Done(output={"by": self.name})

    def record(self, platform: Platform, tx: Transaction, saga: Saga, answer: Done | Wait) -> None:
        effect(tx, saga, f"do {self.name}")

    def act_undo(self, platform: Platform, saga: Saga) -> None:
        self.script.act(self.name, "undo")

    def undo(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        effect(tx, saga, f"undo {self.name}")


class AwaitStep(_Named, Step):
    waits = True

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done | Wait:
        self.script.act(self.name, "do")
        fact = "SELECT 1 FROM hodei.effects WHERE saga_id = :saga AND kind = 'fact'"
        if tx.connection.execute(text(fact), {"saga": saga.id}).first() is None:
            return Wait(until=saga.now + timedelta(hours=1), metadata={"waited": True})
        effect(tx, saga, f"do {self.name}")
        return Done(output={"by": self.name})


class Drill(SagaType):
    """Called CLEANUP, since the table admits only the contract's names."""

    name = "CLEANUP"

    def __init__(self, script: Script) -> None:
        self.steps = (  # type: ignore[misc]
            RowStep("Write", script),
            OutsideStep("Make", script),
            AwaitStep("Await", script, undoable=False),
            OutsideStep("Finish", script),
        )

    def undone(self, platform: Platform, tx: Transaction, saga: Saga) -> None:
        effect(tx, saga, "settled")


class DrillGround:
    """A saga of that kind, and an engine for each runner."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.script = Script()
        self.kind = Drill(self.script)
        core.sql(
            "CREATE TABLE IF NOT EXISTS hodei.effects (n bigserial PRIMARY KEY, saga_id uuid NOT NULL, kind text NOT NULL)"
        )
        self.core.engine = self.runner()
        self.saga_id = fresh_id()

    def runner(self) -> Engine:
        return Engine(self.core.platform, (self.kind,))

    def start(self, saga_id: UUID | None = None) -> bool:
        saga_id = saga_id or self.saga_id
        with self.core.database.begin() as tx:
            return self.core.engine.start(
                tx, "CLEANUP", saga_id=saga_id, subject_id=saga_id, correlation_id=saga_id, actor="test", metadata={}
            )  # fmt: skip

    def fact(self, *, wake: bool = True) -> None:
        """What the saga waits for comes about."""
        self.core.sql("INSERT INTO hodei.effects (saga_id, kind) VALUES (:saga, 'fact')", saga=self.saga_id)
        if wake:
            with self.core.database.begin() as tx:
                self.core.engine.wake(tx, "CLEANUP", self.saga_id, "Await")

    def effects(self) -> list[str]:
        rows = self.core.sql(
            "SELECT kind FROM hodei.effects WHERE saga_id = :saga AND kind <> 'fact' ORDER BY n",
            saga=self.saga_id,
        )
        return [row.kind for row in rows]

    def steps(self) -> dict[str, str]:
        rows = self.core.sql(
            "SELECT step_name, state FROM saga_steps WHERE saga_id = :saga ORDER BY step_order",
            saga=self.saga_id,
        )
        return {row.step_name: row.state for row in rows}

    @property
    def state(self) -> str:
        return self.core.saga(self.saga_id).state

    def expire_lease(self) -> None:
        self.core.sql(
            "UPDATE sagas SET lease_expires = clock_timestamp() WHERE id = :saga AND lease_expires IS NOT NULL",
            saga=self.saga_id,
        )

    def nudge(self) -> None:
        self.core.engine.resume(self.saga_id)

    def finish(self) -> None:
        """All that was lost is found again, as often as it takes."""
        for _ in range(30):
            self.expire_lease()
            self.nudge()
            self.core.drain()
            if self.state in ("COMPLETED", "FAILED"):
                return
        raise AssertionError(f"the saga did not end: {self.state} {self.steps()}")


def in_thread(target: Callable[..., Any], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments)
    thread.start()
    return thread
