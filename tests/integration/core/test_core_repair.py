"""The clock finds what a lost message, a dead runner or a gone worker has stopped."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import pytest
from support.core import Core, TestPlace, failure, open_the_door, result

from hodei.errors import DatabaseUnavailable
from hodei.ports import Platform
from hodei.providers.contract import ProviderError, ResourceState, ResourceView
from hodei.services import agents, cleanup, dispatch, repair, workers


def lose_messages(core: Core) -> None:
    core.courier.kept.clear()


def later(core: Core, seconds: float) -> None:
    """As if that long had passed for sagas, executions and workers."""
    shift = f"interval '{seconds} s'"
    core.sql(f"UPDATE sagas SET nudge_after = nudge_after - {shift}, waiting_until = waiting_until - {shift}")
    core.sql(f"UPDATE hodei.executions SET reported_at = reported_at - {shift}")
    core.sql(f"UPDATE workers SET updated_at = updated_at - {shift}")


def test_a_job_whose_every_message_is_lost_still_ends(core: Core) -> None:
    """Redis is away from its first message to its last: the clock alone carries the job."""
    # given
    core.provider("here")
    job_id = core.submit("here")
    connected = False

    # when
    for _ in range(12):
        lose_messages(core)
        later(core, 30)
        dispatch.look(core.platform)
        lose_messages(core)
        repair.nudge_sagas(core.platform)
        core.drain()
        job = core.job(job_id)
        if core.sql("SELECT 1 FROM workers WHERE state = 'CONNECTING'") and not connected:
            core.connect(job.worker_id)
            connected = True
        elif job.state == "ASSIGNED":
            core.perform(job.worker_id)

    # then
    assert core.job(job_id).state == "SUCCEEDED"
    assert [(saga.saga_type, saga.state) for saga in core.sagas(job_id)] == [
        ("PROVISIONING", "COMPLETED"), ("EXECUTION", "COMPLETED"),
    ]  # fmt: skip


def test_a_result_whose_wake_up_is_lost_ends_its_job_all_the_same(core: Core) -> None:
    # given a job without a time-out: its saga waits for years
    core.provider("here")
    open_the_door(core)
    job_id, worker_id = core.to_running_worker("here")
    core.perform(worker_id)
    lose_messages(core)

    # when a few seconds have passed
    core.sql("UPDATE hodei.executions SET reported_at = reported_at - interval '4 s'")
    repair.nudge_sagas(core.platform)
    core.drain()

    # then
    assert core.job(job_id).state == "SUCCEEDED"


def test_a_job_that_runs_is_left_alone_by_the_clock(core: Core) -> None:
    # given
    core.provider("here")
    _, worker_id = core.to_running_worker("here")
    given = core.assigned(worker_id)
    agent = agents.AgentIdentity(worker_id=worker_id)
    agents.accept(core.platform, agent, UUID(given["execution_id"]), 1)
    agents.started(core.platform, agent, UUID(given["execution_id"]), 1, pid=1, at_us=1)
    repair.nudge_sagas(core.platform)
    core.drain()

    # when
    later(core, 3600)

    # then
    assert repair.nudge_sagas(core.platform) <= 1  # its start deadline is looked at once
    core.drain()
    assert repair.nudge_sagas(core.platform) == 0


def test_a_worker_that_connected_while_its_wake_up_was_lost_completes_its_saga(core: Core) -> None:
    # given
    core.provider("here")
    open_the_door(core)
    job_id = core.submit("here")
    core.drain()
    core.connect(core.job(job_id).worker_id)
    lose_messages(core)

    # when
    core.sql("UPDATE workers SET updated_at = updated_at - interval '4 s'")
    repair.nudge_sagas(core.platform)
    core.drain()

    # then
    assert [row.state for row in core.sagas(job_id, "PROVISIONING")] == ["COMPLETED"]


def silence(core: Core, seconds: float) -> None:
    core.sql(f"UPDATE workers SET last_heartbeat = clock_timestamp() - interval '{seconds} s'")


def test_a_silent_worker_that_its_provider_shows_running_is_kept_until_it_is_given_up(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    job_id, worker_id = core.to_running_worker("here")
    open_the_door(core)

    # when
    silence(core, 100)
    assert repair.watch_workers(core.platform) == 0
    assert core.worker(worker_id).state == "BUSY"
    silence(core, 301)
    assert repair.watch_workers(core.platform) == 1
    core.drain()

    # then it was stopped before its attempt was given up
    assert core.places.get(provider_id).stops[0] == worker_id
    assert core.job(job_id).state == "PENDING"
    assert "JobRetried" in core.events(job_id)


@pytest.mark.parametrize("verb", ["list_workers", "inspect"])
def test_a_provider_that_cannot_be_asked_loses_nobody_before_its_lease_is_over(
    core: Core, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    # given
    provider_id = core.provider("here")
    job_id, worker_id = core.to_running_worker("here")
    open_the_door(core)

    def away(_: object) -> ResourceView:
        raise ProviderError(failure("ERR_5001"), transient=True)

    place = core.places.get(provider_id)
    if verb == "inspect":
        place.made.clear()  # so that it is asked about the worker by itself
    for each in ("list_workers", "inspect", "stop") if verb == "list_workers" else ("inspect", "stop"):
        monkeypatch.setattr(place, each, away)

    # when it may still run
    silence(core, core.platform.settings.lease_over_s - 5)
    assert repair.watch_workers(core.platform) == 0
    assert core.worker(worker_id).state == "BUSY"

    # when its agent has ended it, wherever it is
    silence(core, core.platform.settings.lease_over_s + 1)
    assert repair.watch_workers(core.platform) == 1
    core.drain()

    # then the job is tried again, though nobody has confirmed the worker's end
    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_2006")
    assert "does not answer" in core.job(job_id).error_message
    assert core.worker(worker_id).state == "TERMINATING"


def test_a_worker_that_was_stopped_and_whose_provider_never_answers_holds_its_job_no_longer_than_its_lease(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    provider_id = core.provider("here")
    job_id, worker_id = core.to_running_worker("here")

    def away(*_: object, **__: object) -> None:
        raise ProviderError(failure("ERR_5001"), transient=True)

    monkeypatch.setattr(core.places.get(provider_id), "stop", away)
    with core.database.begin() as tx:
        tx.scalar("worker_set_terminating", id=worker_id, destroy_in_s=0.0, reason="somebody stopped it")
    silence(core, core.platform.settings.lease_over_s - 5)
    assert cleanup.sweep(core.platform) == 0

    # when
    silence(core, core.platform.settings.lease_over_s + 1)
    assert cleanup.sweep(core.platform) == 1
    core.drain()

    # then
    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_2006")
    assert core.worker(worker_id).state == "TERMINATING"


def test_our_own_downtime_is_no_workers_silence(core: Core) -> None:
    # given workers that could not reach us for an hour
    core.provider("here")
    _, worker_id = core.to_running_worker("here")
    silence(core, 3600)

    # then: no door is open; and one that has just opened
    assert repair.watch_workers(core.platform) == 0
    core.sql(
        "INSERT INTO hodei.loops (name, owner, interval_s, detail) VALUES ('door:t', 't', 5, "
        "jsonb_build_object('up_since', clock_timestamp() - interval '10 s'))"
    )
    assert repair.watch_workers(core.platform) == 0
    assert core.worker(worker_id).state == "BUSY"


def test_a_result_that_came_before_the_worker_was_found_gone_counts(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    job_id, worker_id = core.to_running_worker("here")
    core.perform(worker_id)
    lose_messages(core)
    core.places.get(provider_id).made.clear()
    open_the_door(core)
    silence(core, 60)

    # when
    repair.watch_workers(core.platform)
    later(core, 30)
    repair.nudge_sagas(core.platform)
    core.drain()

    # then
    assert core.job(job_id).state == "SUCCEEDED"
    assert core.job(job_id).attempts == 1


def test_an_attempt_whose_worker_was_ended_from_elsewhere_is_given_up(core: Core) -> None:
    # given a running job whose worker was terminated without its saga
    core.provider("here")
    job_id, worker_id = core.to_running_worker("here")
    with core.database.begin() as tx:
        tx.scalar("worker_set_terminating", id=worker_id, destroy_in_s=0.0, reason="somebody stopped it")
    core.deliver(("destroy", worker_id))

    # when
    assert cleanup.sweep(core.platform) == 1
    assert cleanup.sweep(core.platform) == 0
    core.drain()

    # then
    job = core.job(job_id)
    assert (job.state, job.error_code) == ("PENDING", "ERR_2006")


def test_a_worker_that_ends_before_it_connects_is_said_once(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    provider_id = core.provider("here")
    job_id = core.submit("here")
    core.drain()
    worker_id = core.job(job_id).worker_id
    open_the_door(core)
    core.sql("UPDATE workers SET updated_at = updated_at - interval '2 s'")
    view = ResourceView(
        worker_id=worker_id, state=ResourceState.EXITED, exit_code=1, failure=failure("ERR_1010")
    )
    monkeypatch.setattr(core.places.get(provider_id), "inspect", lambda worker_id: view)

    # when nobody takes the messages
    for _ in range(5):
        repair.watch_workers(core.platform)
        core.sql("UPDATE workers SET updated_at = updated_at - interval '2 s'")

    # then there is one
    assert len(core.courier.kept) == 1
    core.drain()
    assert (core.job(job_id).state, core.job(job_id).error_code) == ("FAILED", "ERR_1010")


def test_a_clock_behind_the_databases_cuts_no_workers_time_to_connect(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a controller whose clock is an hour behind
    import datetime as real

    class Behind(real.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.datetime.now(tz) - real.timedelta(hours=1)

    from hodei.sagas import infrastructure, provisioning

    for module in (provisioning, infrastructure):
        monkeypatch.setattr(module, "datetime", Behind)
    core.provider("here")

    # when
    job_id = core.submit("here")
    core.drain()

    # then
    assert [row.state for row in core.sagas(job_id)] == ["IN_PROGRESS"]
    assert core.job(job_id).state == "SCHEDULED"


def test_a_worker_that_never_connects_costs_one_try(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    job_id = core.submit("here")
    core.drain()
    first = core.job(job_id).worker_id

    # when
    core.sql(
        "UPDATE sagas SET nudge_after = now(), waiting_until = now(), metadata = metadata || "
        "jsonb_build_object('deadline', clock_timestamp() - interval '1 s')"
    )
    repair.nudge_sagas(core.platform)
    core.drain()

    # then
    job = core.job(job_id)
    assert (job.state, job.error_code, job.infra_retries) == ("PENDING", "ERR_3005", 1)
    assert core.worker(first).state == "TERMINATED"
    assert core.places.get(provider_id).made == {}


def test_a_worker_that_cannot_be_destroyed_is_tried_again_later(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    place = core.places.get(provider_id)
    _, worker_id = core.to_running_worker("here")

    def away(worker_id: UUID) -> None:
        raise ProviderError(failure("ERR_5001"))

    place.on_stop = away
    core.perform(worker_id)
    core.drain()
    assert core.worker(worker_id).state == "TERMINATING"
    assert core.places_taken(provider_id) == 1

    # when it is tried at once, later, and twice
    assert repair.destroy_workers(core.platform) == 0
    place.on_stop = lambda worker_id: None
    core.sql("UPDATE workers SET destroy_after = clock_timestamp()")
    assert repair.destroy_workers(core.platform) == 1
    assert repair.destroy_workers(core.platform) == 0

    # then
    assert core.worker(worker_id).state == "TERMINATED"
    assert core.places_taken(provider_id) == 0


def test_what_no_live_row_stands_for_is_removed_and_the_rest_is_left(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    place = core.places.get(provider_id)
    _, worker_id = core.to_running_worker("here")
    stray = UUID(int=7)
    place.made[stray] = "stray"

    # when
    assert cleanup.sweep(core.platform) == 1
    core.drain()

    # then
    assert list(place.made) == [worker_id]
    steps = core.sql("SELECT s.state, st.output_data FROM sagas s JOIN saga_steps st ON st.saga_id = s.id"
                     " WHERE s.saga_type = 'CLEANUP' ORDER BY st.step_order")  # fmt: skip
    assert [row.state for row in steps] == ["COMPLETED"] * 5
    assert steps[-1].output_data == {"workers_removed": 1, "workers_left": 0, "jobs_reset": 0}
    assert cleanup.sweep(core.platform) == 0


def fault(*_: object, **__: object) -> None:
    """What no provider should raise."""
    raise ValueError("Expecting value: line 1 column 1")


@pytest.mark.parametrize("verb", ["list_workers", "stop"])
def test_a_provider_with_a_fault_of_its_own_hides_nothing_that_another_left(core: Core, verb: str) -> None:
    # given two providers with something left over, of which the first cannot be asked, or cannot end it
    faulty, other = (core.places.get(core.provider(name)) for name in ("a", "b"))
    faulty.made[UUID(int=6)] = other.made[UUID(int=7)] = "stray"
    setattr(faulty, verb, fault)

    # when
    assert cleanup.sweep(core.platform) >= 1
    core.drain()

    # then
    assert other.made == {}
    assert {row.state for row in core.sql("SELECT state FROM sagas WHERE saga_type = 'CLEANUP'")} == {
        "COMPLETED"
    }


@pytest.mark.parametrize("verb", ["list_workers", "inspect", "watched"])
def test_a_provider_with_a_fault_of_its_own_hides_no_lost_worker_of_another(core: Core, verb: str) -> None:
    # given two providers whose workers are silent, and gone
    open_the_door(core)
    workers = {}
    for name in ("a", "b"):
        place = core.places.get(core.provider(name))
        _, workers[name] = core.to_running_worker(name)
        place.made.clear()
        if name == "a":
            setattr(place, verb, fault)
    silence(core, 60)

    # when
    lost = repair.watch_workers(core.platform)
    core.drain()

    # then
    known_gone = verb == "watched"  # without its watch it is asked
    assert lost == 1 + known_gone
    assert core.worker(workers["b"]).state == "TERMINATED"
    assert core.worker(workers["a"]).state == ("TERMINATED" if known_gone else "BUSY")


def test_a_provider_with_a_fault_of_its_own_keeps_no_worker_of_another_from_its_end(core: Core) -> None:
    # given two providers with a worker to destroy each, of which the first fails as none should
    ended = []
    for name in ("a", "b"):
        place = core.places.get(core.provider(name))
        place.on_stop = fault
        _, worker_id = core.to_running_worker(name)
        core.perform(worker_id)
        core.drain()
        ended.append((place, worker_id))
    (_, first), (place, second) = ended
    place.on_stop = lambda worker_id: None

    # when
    core.sql("UPDATE workers SET destroy_after = clock_timestamp() - interval '1 s' WHERE id = :id", id=first)
    core.sql("UPDATE workers SET destroy_after = clock_timestamp() WHERE id = :id", id=second)

    # then
    assert repair.destroy_workers(core.platform) == 1
    assert (core.worker(first).state, core.worker(second).state) == ("TERMINATING", "TERMINATED")


def two_to_destroy(core: Core) -> tuple[TestPlace, list[UUID]]:
    """Two workers that could not be destroyed so far, and are due again."""
    place = core.places.get(core.provider("here"))
    place.on_stop = fault
    ended = []
    for _ in range(2):
        _, worker_id = core.to_running_worker("here")
        core.perform(worker_id)
        core.drain()
        ended.append(worker_id)
    core.sql("UPDATE workers SET destroy_after = clock_timestamp() WHERE state = 'TERMINATING'")
    return place, ended


def test_a_worker_that_takes_long_to_destroy_holds_up_no_other(core: Core) -> None:
    # given
    place, ended = two_to_destroy(core)
    both = threading.Barrier(2, timeout=10)

    def only_while_the_other_is(worker_id: UUID) -> None:
        both.wait()

    # when
    place.on_stop = only_while_the_other_is

    # then
    assert repair.destroy_workers(core.platform) == 2
    assert {core.worker(worker_id).state for worker_id in ended} == {"TERMINATED"}


def test_a_turn_that_took_long_enough_leaves_the_rest_to_the_next(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    place, _ = two_to_destroy(core)
    over = threading.Event()
    monkeypatch.setattr(repair, "DESTROYED_AT_ONCE", 1)
    monkeypatch.setattr(repair, "DESTROYS_FOR_S", 0.5)

    def longer_than_the_turn(worker_id: UUID) -> None:
        over.wait(1.0)

    # when
    place.on_stop = longer_than_the_turn
    assert repair.destroy_workers(core.platform) == 1
    over.set()

    # then
    assert repair.destroy_workers(core.platform) == 1
    assert repair.destroy_workers(core.platform) == 0


@pytest.mark.parametrize("error", [DatabaseUnavailable("It is away."), ValueError("a fault of our own")])
def test_one_worker_that_cannot_be_destroyed_keeps_no_other_from_its_end(
    core: Core, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    # given
    place, (first, second) = two_to_destroy(core)
    place.on_stop = lambda worker_id: None
    destroy = workers.destroy

    def destroy_second(platform: Platform, worker_id: UUID) -> bool:
        if worker_id == first:
            raise error
        return destroy(platform, worker_id)

    monkeypatch.setattr(workers, "destroy", destroy_second)

    # then
    assert repair.destroy_workers(core.platform) == 1
    assert (core.worker(first).state, core.worker(second).state) == ("TERMINATING", "TERMINATED")


def test_a_provider_that_cannot_even_say_how_it_is_is_not_well(core: Core) -> None:
    provider_id = core.provider("here")
    core.places.get(provider_id).health = fault  # type: ignore[method-assign,assignment]

    repair.check_providers(core.platform)

    [row] = core.sql("SELECT status, status_reason FROM provider_configs WHERE id = :id", id=provider_id)
    assert row.status == "UNHEALTHY" and "ValueError" in row.status_reason


def test_a_cut_short_report_is_a_time_out_or_a_failure(core: Core) -> None:
    core.provider("here")
    for outcome, code, state in (
        ("timeout", "ERR_1005", "TIMEOUT"),
        ("idle_timeout", "ERR_1015", "TIMEOUT"),
        ("exited", "ERR_1007", "FAILED"),
        ("worker_stopped", "ERR_1008", "PENDING"),
    ):
        job_id, worker_id = core.to_running_worker("here")
        agent, given = agents.AgentIdentity(worker_id=worker_id), core.assigned(worker_id)
        report = result(143, outcome=outcome, error_code=code, error_message="cut")
        agents.report_result(core.platform, agent, UUID(given["execution_id"]), given["fence"], report)
        core.drain()
        assert core.job(job_id).state == state, outcome
        core.sql("UPDATE jobs SET due_at = clock_timestamp() + interval '1 h'")
