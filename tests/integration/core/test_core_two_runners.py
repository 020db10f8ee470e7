"""Two runners at one saga at the same moment: the second sees what the first did, however long it waited for the row."""

from __future__ import annotations

from support.core import Core
from support.core_saga import STEPS, DrillGround, in_thread
from support.waiting import until

WAITING = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_a_message_that_comes_twice_at_once_does_its_step_once(core: Core) -> None:
    # given a saga that may go on, whose row somebody holds while the same message reaches two runners
    drill = DrillGround(core)
    drill.start()
    core.drain()
    drill.fact(wake=False)
    with core.database.begin() as tx:
        tx.row("saga_lock", id=drill.saga_id)
        runners = [in_thread(drill.runner().run_step, drill.saga_id, "Await") for _ in range(2)]
        until(lambda: core.sql(WAITING)[0].n == 2, what="two runners that wait for the saga")

    # when the row is let go
    for runner in runners:
        runner.join(10)
    drill.finish()

    # then the step was done once
    assert drill.effects() == [f"do {step}" for step in STEPS]
    completed = [step for event, step in core.audit(drill.saga_id) if event == "StepCompleted"]
    assert completed == STEPS
