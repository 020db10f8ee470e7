"""The engine: a saga of the tests, run by messages that the test delivers, repeats, drops and cuts."""

from __future__ import annotations

import contextlib
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.core import Core
from support.core_saga import STEPS, DrillGround, in_thread
from support.waiting import until

from hodei.sagas import audit, lease

COMPLETED_TRAIL = [
    ("SagaStarted", None),
    *[(kind, step) for step in STEPS for kind in ("StepStarted", "StepCompleted")],
    ("SagaCompleted", None),
]


@pytest.fixture
def drill(core: Core) -> DrillGround:
    return DrillGround(core)


def test_steps_run_in_order_and_wait_for_their_fact(drill: DrillGround) -> None:
    # when
    drill.start()
    drill.core.drain()

    # then it waits, and nobody holds it
    row = drill.core.saga(drill.saga_id)
    assert drill.steps() == {
        "Write": "COMPLETED",
        "Make": "COMPLETED",
        "Await": "IN_PROGRESS",
        "Finish": "PENDING",
    }
    assert row.waiting_until is not None and row.lease_owner is None
    assert row.metadata["waited"] is True

    # when
    drill.fact()
    drill.core.drain()

    # then
    assert drill.state == "COMPLETED"
    assert drill.effects() == [f"do {step}" for step in STEPS]
    assert drill.core.audit(drill.saga_id) == COMPLETED_TRAIL


def test_a_second_start_with_the_same_id_is_nothing(drill: DrillGround) -> None:
    # given
    assert drill.start() is True
    drill.core.drain()
    before = drill.core.audit(drill.saga_id)

    # when
    again = drill.start()

    # then
    assert again is False
    assert drill.core.drain() == 0
    assert drill.core.audit(drill.saga_id) == before


def test_a_start_that_is_rolled_back_sends_nothing(drill: DrillGround) -> None:
    # when
    with contextlib.suppress(RuntimeError), drill.core.database.begin() as tx:
        drill.core.engine.start(
            tx, "CLEANUP", saga_id=drill.saga_id, subject_id=drill.saga_id, correlation_id=drill.saga_id,
            actor="test", metadata={},
        )  # fmt: skip
        raise RuntimeError

    # then
    assert drill.core.courier.ever == []
    assert drill.core.sql("SELECT 1 FROM sagas") == []


def test_a_message_ahead_of_its_turn_does_nothing(drill: DrillGround) -> None:
    drill.start()

    assert drill.core.engine.run_step(drill.saga_id, "Finish") is False
    assert drill.core.engine.run_step(drill.saga_id, "Make") is False

    assert drill.effects() == []
    assert drill.core.audit(drill.saga_id) == [("SagaStarted", None)]


def test_two_runners_make_one_claim(drill: DrillGround) -> None:
    # given a step that takes its time
    drill.start()
    drill.core.engine.run_step(drill.saga_id, "Write")
    entered, leave = threading.Event(), threading.Event()

    def dawdle(step: str, verb: str) -> None:
        entered.set()
        leave.wait(60)

    drill.script.before = dawdle
    first = in_thread(drill.runner().run_step, drill.saga_id, "Make")
    entered.wait(60)

    # when another comes, of another process and of the same
    drill.script.before = lambda step, verb: None
    assert drill.runner().run_step(drill.saga_id, "Make") is False
    assert drill.core.engine.run_step(drill.saga_id, "Make") is False
    leave.set()
    first.join(10)

    # then
    assert drill.script.acts.count("do Make") == 1
    assert drill.steps()["Make"] == "COMPLETED"


@pytest.mark.parametrize("same_process", [True, False])
def test_an_expired_lease_is_taken_over_and_the_loser_records_nothing(
    drill: DrillGround, same_process: bool
) -> None:
    # given a runner that has stalled until its lease ran out
    drill.start()
    drill.core.engine.run_step(drill.saga_id, "Write")
    stalled, wake_up, second_in, second_out = (threading.Event() for _ in range(4))
    turns = iter([(stalled, wake_up), (second_in, second_out)])

    def stall(step: str, verb: str) -> None:
        entered, leave = next(turns)
        entered.set()
        leave.wait(60)

    drill.script.before = stall
    answers: dict[str, bool] = {}
    loser, winner = drill.core.engine, drill.core.engine if same_process else drill.runner()
    first = in_thread(lambda: answers.update(loser=loser.run_step(drill.saga_id, "Make")))
    stalled.wait(60)
    drill.expire_lease()

    # when another takes over, and the first comes back while that one still works
    second = in_thread(lambda: answers.update(winner=winner.run_step(drill.saga_id, "Make")))
    second_in.wait(60)
    wake_up.set()
    first.join(10)
    assert drill.steps()["Make"] == "IN_PROGRESS"
    second_out.set()
    second.join(10)

    # then
    assert answers == {"loser": False, "winner": True}
    assert drill.effects() == ["do Write", "do Make"]
    assert drill.core.audit(drill.saga_id).count(("StepCompleted", "Make")) == 1


def test_a_lease_is_renewed_for_as_long_as_its_step_works(
    drill: DrillGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given leases of a third of a second
    monkeypatch.setattr(audit, "LEASE_S", 0.3)
    monkeypatch.setattr(lease, "LEASE_S", 0.3)
    drill.start()
    drill.core.engine.run_step(drill.saga_id, "Write")
    entered, leave = threading.Event(), threading.Event()

    def dawdle(step: str, verb: str) -> None:
        entered.set()
        leave.wait(60)

    drill.script.before = dawdle
    runner = in_thread(drill.core.engine.run_step, drill.saga_id, "Make")
    entered.wait(60)
    first = drill.core.saga(drill.saga_id).lease_expires

    # when several of them would have run out
    until(
        lambda: (drill.core.saga(drill.saga_id).lease_expires - first).total_seconds() > 0.6, what="renewals"
    )
    held = drill.core.sql("SELECT lease_expires > clock_timestamp() AS held FROM sagas")[0].held
    leave.set()
    runner.join(10)

    # then
    assert held is True
    assert drill.core.saga(drill.saga_id).lease_owner is None


def test_a_step_that_fails_is_undone_with_those_before_it_last_first(drill: DrillGround) -> None:
    # given an external step that fails
    drill.script.fails_at = "Finish"
    drill.start()
    drill.core.drain()

    # when
    drill.fact()
    drill.core.drain()

    # then
    saga = drill.core.saga(drill.saga_id)
    assert (saga.state, saga.metadata["outcome"], saga.error_code) == ("FAILED", "compensated", "ERR_5005")
    assert drill.effects()[3:] == ["undo Finish", "undo Make", "undo Write", "settled"]
    assert drill.steps() == {
        "Write": "COMPENSATED", "Make": "COMPENSATED", "Await": "COMPLETED", "Finish": "COMPENSATED",
    }  # fmt: skip
    assert drill.core.audit(drill.saga_id)[7:] == [
        ("StepStarted", "Finish"),
        ("StepFailed", "Finish"),
        ("CompensationStarted", None),
        ("StepCompensated", "Finish"),
        ("StepCompensated", "Make"),
        ("StepCompensated", "Write"),
        ("SagaFailed", None),
    ]


def test_a_change_of_rows_that_fails_leaves_no_row(drill: DrillGround) -> None:
    drill.script.fails_at = "Write"

    drill.start()
    drill.core.drain()

    assert drill.state == "FAILED"
    assert drill.effects() == ["undo Write", "settled"]


def test_an_undoing_that_raises_is_asked_again(drill: DrillGround) -> None:
    # given
    drill.script.fails_at = "Finish"
    drill.start()
    drill.core.drain()
    drill.fact()
    refusals = iter([True, True])

    def refuse(step: str, verb: str) -> None:
        if (step, verb) == ("Make", "undo") and next(refusals, False):
            raise OSError("the provider is away")

    drill.script.before = refuse
    for _ in range(2):
        with pytest.raises(OSError, match="the provider is away"):
            drill.core.drain()
        row = drill.core.saga(drill.saga_id)
        assert (row.state, drill.steps()["Make"]) == ("COMPENSATING", "COMPENSATING")

        # its lease is given back at once, so the next look need not wait for it
        assert drill.core.sql("SELECT lease_expires <= clock_timestamp() AS over FROM sagas")[0].over is True
        drill.nudge()

    # when
    drill.core.drain()

    # then
    assert drill.state == "FAILED"
    assert drill.effects()[3:] == ["undo Finish", "undo Make", "undo Write", "settled"]


def test_a_runner_that_dies_in_a_step_is_followed_by_another(drill: DrillGround) -> None:
    # given
    drill.start()
    drill.core.engine.run_step(drill.saga_id, "Write")
    deaths = iter([True])

    def die(step: str, verb: str) -> None:
        if next(deaths, False):
            raise SystemError("killed")

    drill.script.before = die
    with pytest.raises(SystemError):
        drill.core.engine.run_step(drill.saga_id, "Make")
    drill.core.courier.kept.clear()

    # when its lease has not run out: nothing; when it has: the step is done
    drill.nudge()
    assert drill.core.drain() == 0
    drill.expire_lease()
    drill.nudge()
    drill.core.drain()

    # then
    assert drill.effects() == ["do Write", "do Make"]
    assert drill.core.audit(drill.saga_id).count(("StepStarted", "Make")) == 1


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "repeat", "drop", "late", "single", "nudge", "fact", "expire", "crash"]),
        st.integers(0, 9),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, fails_at=st.sampled_from([None, None, "Write", "Make", "Await", "Finish"]))
def test_however_messages_come_the_end_is_the_same_and_each_effect_is_once(
    core: Core, actions: list[tuple[str, int]], fails_at: str | None
) -> None:
    # given
    drill = DrillGround(core)
    drill.script.fails_at = fails_at
    core.courier.kept.clear()
    drill.start()
    told = False

    # when
    for action, number in actions:
        kept = core.courier.kept
        message = kept[number % len(kept)] if kept else None
        crash = iter([action == "crash"])

        def maybe(step: str, verb: str, crash: object = crash) -> None:
            if next(crash, False):  # type: ignore[call-overload]
                raise SystemError("killed")

        drill.script.before = maybe
        if action == "nudge":
            drill.nudge()
        elif action == "expire":
            drill.expire_lease()
        elif action == "fact":
            drill.fact(wake=number % 2 == 0)
            told = True
        elif message is None:
            continue
        elif action == "single":  # one step of a stretch, out of its turn
            verb, _, saga_id, steps = message
            act = core.engine.run_step if verb == "run" else core.engine.undo_step
            act(saga_id, steps[number % len(steps)])
        elif action == "late":
            kept.rotate(-1)
        elif action == "drop":
            kept.remove(message)
        else:
            if action != "repeat":
                kept.remove(message)
            with contextlib.suppress(SystemError):
                core.deliver(message)
    drill.script.before = lambda step, verb: None
    if not told:
        drill.fact(wake=False)
    drill.finish()

    # then
    if fails_at is None:
        assert drill.state == "COMPLETED"
        assert drill.effects() == [f"do {step}" for step in STEPS]
        assert core.audit(drill.saga_id) == COMPLETED_TRAIL
    else:
        done = STEPS[: STEPS.index(fails_at)]
        begun = [step for step in reversed([*done, fails_at]) if step != "Await"]
        assert drill.state == "FAILED"
        assert drill.effects() == [
            *(f"do {step}" for step in done),
            *(f"undo {step}" for step in begun),
            "settled",
        ]
        kinds = [kind for kind, _ in core.audit(drill.saga_id)]
        assert (
            kinds.count("SagaFailed") == kinds.count("StepFailed") == kinds.count("CompensationStarted") == 1
        )
        assert kinds.count("StepCompensated") == len(begun)


def test_a_runner_that_waited_for_the_row_sees_what_its_holder_did(drill: DrillGround) -> None:
    # given a runner in the middle of a step, and another that waits for the saga's row
    drill.start()
    entered, leave = threading.Event(), threading.Event()

    def dawdle(step: str, verb: str) -> None:
        entered.set()
        leave.wait(60)

    drill.script.before = dawdle
    first = in_thread(drill.core.engine.run_step, drill.saga_id, "Write")
    entered.wait(60)
    second = in_thread(drill.runner().run_step, drill.saga_id, "Write")
    blocked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    until(lambda: drill.core.sql(blocked), what="the second runner's wait")

    # when
    leave.set()
    first.join(10)
    second.join(10)

    # then
    assert drill.script.acts == ["do Write"]
    assert drill.core.audit(drill.saga_id).count(("StepCompleted", "Write")) == 1
