"""A cancel at each point of a job's life: what ends it, what confirms it, what wins against it."""

from __future__ import annotations

from typing import Any

import pytest
from support.core import Core, failure, fresh_id, refused
from support.core_cancel import CANCELLED, AgentOf, ask, pass_time, running, saga_states, settle

from hodei.errors import Conflict, NotFound, StaleAttempt
from hodei.providers.contract import ImageMissing, ProviderError
from hodei.services import dispatch, repair, retry, why


def explained(core: Core, job_id: Any) -> str:
    return why.explain(core.platform, job_id)["summary"]


def test_a_job_in_the_queue_ends_right_there(core: Core) -> None:
    # given
    core.provider("here", max_workers=0)
    job_id = core.submit("here")
    core.drain()

    # when
    answer = ask(core, job_id)

    # then
    assert answer["status"] == "cancelled" and answer["cancel_requested_at"] is not None
    assert core.events(job_id) == ["JobCreated", "JobCancelRequested", "JobStatusChanged CANCELLED"]
    assert core.sagas(job_id) == []
    assert explained(core, job_id) == "It was cancelled."


def test_a_job_between_two_attempts_ends_right_there(core: Core) -> None:
    # given an attempt that failed, and a back-off
    core.provider("here")
    job_id, _, agent = running(core, retries=1)
    agent.report(3)
    core.drain()
    assert core.job(job_id).state == "PENDING"

    # when
    assert ask(core, job_id)["status"] == "cancelled"
    core.make_due()
    dispatch.look(core.platform)
    core.drain()

    # then
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("CANCELLED", 1)


def test_a_running_job_is_cancelled_when_its_agent_says_so_and_not_before(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    job_id, worker_id, agent = running(core, grace_s=3.0)

    # when
    first = ask(core, job_id)
    core.drain()

    # then its agent is told, and nothing is written yet
    assert first["status"] == "running"
    [told] = agent.cancels()
    assert (told["execution_id"], told["fence"], told["grace_s"], told["reason"]) == (
        str(agent.execution_id), 1, 3.0, "cancelled",
    )  # fmt: skip
    settle(core)
    assert core.job(job_id).state == "RUNNING"
    assert "A cancel was asked for" in explained(core, job_id)
    assert str(worker_id) in explained(core, job_id)

    # when it is asked for again
    second = ask(core, job_id)
    core.drain()

    # then
    assert second["cancel_requested_at"] == first["cancel_requested_at"]
    assert len(agent.cancels()) == 1

    # when the agent has done it
    agent.report(**CANCELLED)
    core.drain()

    # then
    job = core.job(job_id)
    assert (job.state, job.exit_code, job.error_code) == ("CANCELLED", 143, None)
    assert core.worker(worker_id).state == "TERMINATED" and core.places_taken(provider_id) == 0
    settle(core)
    assert saga_states(core, job_id) == {
        "PROVISIONING": "COMPLETED", "EXECUTION": "CANCELLED", "CANCELLATION": "COMPLETED",
    }  # fmt: skip
    assert core.events(job_id) == [
        "JobCreated", "JobAssigned", "JobAccepted", "JobStatusChanged RUNNING", "JobCancelRequested",
        "JobStatusChanged CANCELLED",
    ]  # fmt: skip
    assert core.sql("SELECT state FROM hodei.executions") == [{"state": "cancelled"}]
    assert len(core.sql("SELECT 1 FROM job_log_files")) == 1
    assert ask(core, job_id)["cancel_requested_at"] == first["cancel_requested_at"]


def test_an_agent_is_told_also_while_no_controller_works(core: Core) -> None:
    # given
    core.provider("here")
    job_id, _, agent = running(core)

    # when every message is lost, that of the wish and those after it
    ask(core, job_id)
    ask(core, job_id)
    core.courier.kept.clear()

    # then
    [told] = agent.cancels()
    assert told["fence"] == 1
    agent.report(**CANCELLED)
    settle(core)
    assert core.job(job_id).state == "CANCELLED"


@pytest.mark.parametrize(("exit_code", "state"), [(0, "SUCCEEDED"), (3, "FAILED")])
def test_a_result_that_arrives_before_the_kill_wins(core: Core, exit_code: int, state: str) -> None:
    # given
    core.provider("here")
    job_id, _, agent = running(core)

    # when
    ask(core, job_id)
    core.drain()
    agent.report(exit_code)
    settle(core)

    # then
    assert core.job(job_id).state == state
    assert saga_states(core, job_id) == {
        "PROVISIONING": "COMPLETED", "EXECUTION": "COMPLETED", "CANCELLATION": "COMPLETED",
    }  # fmt: skip
    [saga] = core.sagas(job_id, "CANCELLATION")
    [step] = core.sql(
        "SELECT output_data FROM saga_steps WHERE saga_id = :id AND step_name = 'UpdateJobState'", id=saga.id
    )
    assert step.output_data == {"overtaken": True, "job_state": state}
    refusal = refused(lambda: ask(core, job_id))
    assert isinstance(refusal, Conflict) and state in refusal.message


def test_a_result_that_was_there_first_wins_also_when_the_cancel_looks_first(core: Core) -> None:
    # given a result whose EXECUTION waits for a controller
    core.provider("here")
    job_id, _, agent = running(core)
    ask(core, job_id)
    core.drain()
    agent.report(0)
    late = list(core.courier.kept)
    core.courier.kept.clear()

    # when
    [cancellation] = core.sagas(job_id, "CANCELLATION")
    core.engine.run_step(cancellation.id, "UpdateJobState")
    assert core.job(job_id).state == "RUNNING"
    core.courier.kept.extend(late)
    settle(core)

    # then
    assert (core.job(job_id).state, core.job(job_id).exit_code) == ("SUCCEEDED", 0)
    assert saga_states(core, job_id)["CANCELLATION"] == "COMPLETED"


def test_a_failure_that_is_not_the_jobs_own_cancels_it_also_when_no_budget_is_left(core: Core) -> None:
    # given
    core.provider("here")
    job_id, _, agent = running(core)
    core.sql("UPDATE jobs SET infra_retries = 3")

    # when its worker is told to stop while its agent is told to cancel it
    ask(core, job_id)
    agent.report(143, outcome="worker_stopped", error_code="ERR_1008", error_message="It was told to stop.")
    settle(core)

    # then
    assert (core.job(job_id).state, core.job(job_id).error_code) == ("CANCELLED", None)


def test_a_failure_that_would_be_tried_again_is_the_end_of_a_cancelled_job(core: Core) -> None:
    core.provider("here")
    job_id, _, agent = running(core, retries=3)

    ask(core, job_id)
    agent.report(3)
    settle(core)

    assert (core.job(job_id).state, core.job(job_id).attempts) == ("CANCELLED", 1)
    assert "JobRetried" not in core.events(job_id)


def test_an_attempt_that_was_not_accepted_is_revoked_and_can_not_be_accepted_later(core: Core) -> None:
    # given
    core.provider("here")
    job_id, worker_id = core.to_running_worker("here")
    agent = AgentOf(core, worker_id)

    # when
    ask(core, job_id)
    core.drain()

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert isinstance(refused(agent.accept), StaleAttempt)
    settle(core)
    assert saga_states(core, job_id)["EXECUTION"] == "CANCELLED"
    assert core.worker(worker_id).state == "TERMINATED"
    assert core.events(job_id)[-2:] == ["JobCancelRequested", "JobStatusChanged CANCELLED"]


def test_an_attempt_that_was_accepted_and_has_not_started_is_its_agents_to_end(core: Core) -> None:
    # given
    core.provider("here")
    job_id, worker_id = core.to_running_worker("here")
    agent = AgentOf(core, worker_id)
    agent.accept()

    # when
    ask(core, job_id)
    core.drain()
    assert len(agent.cancels()) == 1 and core.job(job_id).state == "ASSIGNED"
    agent.report(**CANCELLED)
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert core.sql("SELECT state, exit_code FROM hodei.executions") == [
        {"state": "cancelled", "exit_code": 143}
    ]


def test_a_worker_that_is_being_made_is_undone_first(core: Core) -> None:
    # given a container that exists and has not connected
    provider_id = core.provider("here")
    job_id = core.submit("here")
    core.drain()
    worker_id = core.job(job_id).worker_id
    assert worker_id in core.places.get(provider_id).made
    away = True

    def unreachable(_: object) -> None:
        if away:
            raise ProviderError(failure("ERR_5001"))

    core.places.get(provider_id).on_stop = unreachable

    # when its provider is away
    ask(core, job_id)
    with pytest.raises(ProviderError):
        core.drain()
    core.drain()

    # then nothing is confirmed, so nothing is written
    assert core.job(job_id).state == "SCHEDULED"
    assert "is undone first" in explained(core, job_id)

    # when it is back
    away = False
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert core.places.get(provider_id).made == {} and core.places_taken(provider_id) == 0
    assert saga_states(core, job_id) == {"PROVISIONING": "CANCELLED", "CANCELLATION": "COMPLETED"}
    assert isinstance(refused(lambda: core.connect(worker_id)), Exception)


def test_a_worker_whose_making_has_yet_to_begin_is_never_made(core: Core) -> None:
    # given a job with a place promised, whose PROVISIONING waits for a controller
    provider_id = core.provider("here")
    job_id = core.submit("here")
    core.deliver(("look",))
    assert core.job(job_id).state == "SCHEDULED"
    late = list(core.courier.kept)
    core.courier.kept.clear()

    # when the cancel is looked at first
    ask(core, job_id)
    while (message := core.courier.take()) is not None:
        if message[1] == "CANCELLATION":
            core.deliver(message)
    assert core.job(job_id).state == "SCHEDULED"
    core.courier.kept.extend(late)
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert core.places.get(provider_id).starts == [] and core.places_taken(provider_id) == 0
    assert saga_states(core, job_id) == {"PROVISIONING": "CANCELLED", "CANCELLATION": "COMPLETED"}


def test_a_pull_is_not_waited_for(core: Core) -> None:
    # given an image that never comes
    provider_id = core.provider("here")

    def missing(request: Any) -> None:
        raise ImageMissing(failure("ERR_3001"), image="far/away")

    core.places.get(provider_id).on_start = missing
    job_id = core.submit("here", image="far/away")
    core.deliver(core.courier.take() or ())
    while (message := core.courier.take()) is not None:
        if message[0] != "pull":
            core.deliver(message)

    # when
    ask(core, job_id)
    core.drain()

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert saga_states(core, job_id)["PROVISIONING"] == "CANCELLED"


@pytest.mark.parametrize("made", [False, True])
def test_a_job_whose_worker_has_just_connected_gives_it_back(core: Core, made: bool) -> None:
    # given a READY worker whose EXECUTION has not begun, and its making is about to be over, or is
    core.provider("here")
    job_id = core.submit("here")
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    if made:
        [provisioning] = core.sagas(job_id, "PROVISIONING")
        core.engine.run_step(provisioning.id, "PublishProvisionedEvent")
        assert core.saga(provisioning.id).state == "COMPLETED"

    # when
    ask(core, job_id)
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED" and core.job(job_id).attempts == 0
    assert core.worker(worker_id).state == "TERMINATED"
    assert saga_states(core, job_id)["EXECUTION"] == "CANCELLED"


def test_a_cancel_whose_every_message_is_lost_ends_all_the_same(core: Core) -> None:
    # given
    core.provider("here")
    job_id, _, agent = running(core)
    ask(core, job_id)
    reported = False

    # when
    for _ in range(12):
        core.courier.kept.clear()
        pass_time(core, 61)
        core.sql("UPDATE workers SET last_heartbeat = clock_timestamp()")
        repair.nudge_sagas(core.platform)
        core.drain()
        if agent.cancels() and not reported:
            agent.report(**CANCELLED)
            reported = True
    core.courier.kept.clear()
    repair.destroy_workers(core.platform)
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert set(saga_states(core, job_id).values()) == {"COMPLETED", "CANCELLED"}


def test_a_cancelled_job_can_be_tried_again_and_cancelled_again(core: Core) -> None:
    # given
    core.provider("here")
    job_id, _, agent = running(core)
    first = ask(core, job_id)
    core.drain()
    agent.report(**CANCELLED)
    settle(core)

    # when
    retry.retry_job(core.platform, job_id, actor="test")
    assert core.job(job_id).cancel_requested_at is None
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    core.drain()
    again = AgentOf(core, worker_id)
    again.accept()
    again.started()
    second = ask(core, job_id)
    core.drain()
    again.report(**CANCELLED)
    settle(core)

    # then
    assert second["cancel_requested_at"] > first["cancel_requested_at"]
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("CANCELLED", 2)
    assert [row.state for row in core.sagas(job_id, "CANCELLATION")] == ["COMPLETED", "COMPLETED"]
    assert core.sql("SELECT attempt, state FROM hodei.executions ORDER BY attempt") == [
        {"attempt": 1, "state": "cancelled"}, {"attempt": 2, "state": "cancelled"},
    ]  # fmt: skip


def test_a_worker_of_many_jobs_goes_on_after_a_cancel(core: Core) -> None:
    # given
    core.provider("here")
    job_id, worker_id, agent = running(core)
    core.sql("UPDATE workers SET max_jobs = 0")

    # when
    ask(core, job_id)
    core.drain()
    agent.report(**CANCELLED)
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert (core.worker(worker_id).state, core.worker(worker_id).current_job_id) == ("READY", None)


@pytest.mark.parametrize("first", ["CANCELLATION", "EXECUTION"])
def test_a_worker_of_many_jobs_goes_on_after_a_cancel_of_what_it_had_not_accepted(
    core: Core, first: str
) -> None:
    # given
    core.provider("here")
    job_id, worker_id = core.to_running_worker("here")
    core.sql("UPDATE workers SET max_jobs = 0")

    # when the cancel's saga ends the job, before or after the attempt's own saga is undone
    ask(core, job_id)
    core.courier.kept.clear()
    [saga] = core.sagas(job_id, "CANCELLATION")
    for step in ("ValidateCancellation", "NotifyWorker"):
        core.engine.run_step(saga.id, step)
    if first == "CANCELLATION":
        core.engine.run_step(saga.id, "UpdateJobState")
    core.drain()
    assert core.sagas(job_id, "EXECUTION")[0].completed_at is not None
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert saga_states(core, job_id)["EXECUTION"] == "CANCELLED"
    assert (core.worker(worker_id).state, core.worker(worker_id).current_job_id) == ("READY", None)


def test_a_worker_of_many_jobs_that_was_only_reserved_for_a_cancelled_one_is_free(core: Core) -> None:
    # given a worker that has done a job, and is kept for the next
    core.provider("here")
    _, worker_id, agent = running(core)
    core.sql("UPDATE workers SET max_jobs = 0")
    agent.report(0)
    core.drain()
    job_id = core.submit("here")
    core.courier.kept.clear()
    dispatch.look(core.platform)
    assert core.worker(worker_id).reserved_for == job_id

    # when
    ask(core, job_id)
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert (core.worker(worker_id).state, core.worker(worker_id).reserved_for) == ("READY", None)
    assert core.job(_next(core)).worker_id == worker_id


def _next(core: Core) -> Any:
    job_id = core.submit("here")
    core.drain()
    return job_id


def test_a_job_that_is_not_there_can_not_be_cancelled(core: Core) -> None:
    assert isinstance(refused(lambda: ask(core, fresh_id())), NotFound)


def test_a_job_that_nobody_cancelled_is_not_touched_by_an_old_cancellation(core: Core) -> None:
    """The CANCELLATION of an earlier life comes late, when the job lives again."""
    # given a cancel that ended the job through its saga's last step but one
    core.provider("here")
    job_id, _, agent = running(core)
    ask(core, job_id)
    core.drain()
    agent.report(**CANCELLED)
    core.drain()
    retry.retry_job(core.platform, job_id, actor="test")
    core.drain()

    # when every step of it is asked for once more
    [saga] = core.sagas(job_id, "CANCELLATION")
    for step in ("ValidateCancellation", "NotifyWorker", "UpdateJobState", "ReleaseWorker"):
        core.engine.run_step(saga.id, step)

    # then
    assert core.job(job_id).state == "SCHEDULED"
