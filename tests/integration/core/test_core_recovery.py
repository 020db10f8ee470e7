"""RECOVERY: what becomes of a job whose worker is lost in the middle."""

from __future__ import annotations

from uuid import UUID

import pytest
from support.core import Core, failure, open_the_door, refused, reopen_the_door

from hodei.errors import StaleAttempt
from hodei.providers.contract import ProviderError, ResourceState, ResourceView
from hodei.services import agents, cleanup, repair, retry
from hodei.services.cancel import cancel_job
from hodei.services.why import explain

STEPS = [
    "CheckWorkerConnectivity",
    "TerminateOldWorker",
    "ProvisionNewWorker",
    "TransferJob",
    "CancelOldWorker",
]


def silence(core: Core, worker_id: UUID, seconds: float) -> None:
    core.sql(
        f"UPDATE workers SET last_heartbeat = clock_timestamp() - interval '{seconds} s' WHERE id = :id",
        id=worker_id,
    )


def running(core: Core, **spec: object) -> tuple[UUID, UUID, UUID]:
    """A job that runs: (job, worker, provider)."""
    provider_id = core.provider("here")
    open_the_door(core)
    job_id, worker_id = core.to_running_worker("here", **spec)
    agent, given = agents.AgentIdentity(worker_id=worker_id), core.assigned(worker_id)
    agents.accept(core.platform, agent, UUID(given["execution_id"]), 1)
    agents.started(core.platform, agent, UUID(given["execution_id"]), 1, pid=1, at_us=1)
    return job_id, worker_id, provider_id


def lose(core: Core, provider_id: UUID, worker_id: UUID) -> None:
    """Its container is gone, and nobody has heard of it for a minute."""
    core.places.get(provider_id).made.pop(worker_id, None)
    silence(core, worker_id, 60)


def saga(core: Core, job_id: UUID) -> tuple[str, list[str]]:
    """The last RECOVERY's state, and the states of its steps."""
    row = core.sagas(job_id, "RECOVERY")[-1]
    steps = core.sql("SELECT state FROM saga_steps WHERE saga_id = :id ORDER BY step_order", id=row.id)
    return row.state, [step.state for step in steps]


def second_attempt(core: Core, job_id: UUID) -> UUID:
    """Let the back-off pass; the worker that the job gets now, connected."""
    core.make_due()
    repair.dispatch(core.platform)
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    core.drain()
    return worker_id


def test_a_lost_worker_is_replaced_and_the_job_goes_on_in_a_second_attempt(core: Core) -> None:
    # given
    job_id, first, provider_id = running(core)
    lose(core, provider_id, first)

    # when
    assert repair.watch_workers(core.platform) == 1
    assert repair.watch_workers(core.platform) == 0, "a second look starts no second recovery"
    core.drain()
    second = second_attempt(core, job_id)
    agent, given = agents.AgentIdentity(worker_id=second), core.assigned(second)
    assert given["attempt"] == 2

    # then the recovery is complete, and the first attempt's saga was undone
    assert saga(core, job_id) == ("COMPLETED", ["COMPLETED"] * len(STEPS))
    assert [row.state for row in core.sagas(job_id, "EXECUTION")] == ["FAILED", "IN_PROGRESS"]
    attempts = core.sql("SELECT attempt, state, error_code FROM hodei.executions ORDER BY attempt")
    assert [(row.attempt, row.state, row.error_code) for row in attempts] == [
        (1, "lost", "ERR_2006"), (2, "pending", None),
    ]  # fmt: skip
    assert core.worker(first).state == "TERMINATED"
    assert core.sql("SELECT count(*) AS n FROM job_log_files")[0].n == 1, "the lost attempt's log is kept"
    assert core.events(job_id) == [
        "JobCreated", "JobAssigned", "JobAccepted", "JobStatusChanged RUNNING", "JobRetried", "JobAssigned",
    ]  # fmt: skip
    assert agent.worker_id != first


def test_a_second_attempt_that_is_over_before_anybody_looked_completes_the_recovery(core: Core) -> None:
    # given
    job_id, first, provider_id = running(core)
    lose(core, provider_id, first)
    repair.watch_workers(core.platform)
    core.drain()

    # when its messages get lost while the second attempt runs to its end
    core.make_due()
    repair.dispatch(core.platform)
    recovery = core.sagas(job_id, "RECOVERY")[-1].id
    _drop_messages_of(core, recovery)
    second = core.job(job_id).worker_id
    core.connect(second)
    _drop_messages_of(core, recovery)
    core.perform_attempt(second, 2)
    _drop_messages_of(core, recovery)
    assert core.job(job_id).state == "SUCCEEDED"
    core.sql("UPDATE sagas SET waiting_until = clock_timestamp(), nudge_after = clock_timestamp()")
    repair.nudge_sagas(core.platform)
    core.drain()

    # then
    assert saga(core, job_id) == ("COMPLETED", ["COMPLETED"] * len(STEPS))


def _drop_messages_of(core: Core, saga_id: UUID) -> None:
    """Deliver everything but what is for this saga."""
    while (message := core.courier.take()) is not None:
        if saga_id not in message:
            core.deliver(message)


def test_a_door_that_has_just_been_opened_counts_from_its_opening(core: Core) -> None:
    # given two doors, one of which was away for an hour, and a worker that could not reach it
    _, worker_id, provider_id = running(core)
    lose(core, provider_id, worker_id)
    silence(core, worker_id, 3600)
    core.sql(
        "INSERT INTO hodei.loops (name, owner, interval_s, detail) VALUES ('door:u', 'u', 5, "
        "jsonb_build_object('up_since', clock_timestamp() - interval '3 s'))"
    )

    # then
    assert repair.watch_workers(core.platform) == 0


def test_why_blames_no_worker_that_cannot_be_heard(core: Core) -> None:
    job_id, worker_id, _ = running(core)
    silence(core, worker_id, 60)
    core.sql("DELETE FROM hodei.loops WHERE name LIKE 'door:%'")

    assert "No worker-manager is running, so it cannot be heard" in explain(core.platform, job_id)["summary"]


def test_why_says_that_a_worker_that_has_the_job_and_did_not_start_it_is_silent(core: Core) -> None:
    core.provider("here")
    job_id, worker_id = core.to_running_worker("here")
    open_the_door(core)
    assert "is starting it" in explain(core.platform, job_id)["summary"]
    silence(core, worker_id, 60)

    assert core.job(job_id).state == "ASSIGNED"
    assert "has been silent for 60 s" in explain(core.platform, job_id)["summary"]


def test_why_says_that_the_worker_was_lost_as_soon_as_that_is_known(core: Core) -> None:
    # given a worker whose container exited, and a recovery that nobody has got to yet
    job_id, worker_id, provider_id = running(core)
    lose(core, provider_id, worker_id)
    assert "has been silent for 60 s" in explain(core.platform, job_id)["summary"]
    repair.watch_workers(core.platform)

    # then
    said, starts_until = explain(core.platform, job_id), core.sagas(job_id, "EXECUTION")[0].waiting_until
    assert (
        f"Its worker {worker_id} (here) is given up: The worker was lost: no sign of it for 60 s"
        in said["summary"]
    )
    assert said["details"] == [
        f"EXECUTION is at ExecuteJob (IN_PROGRESS, until {starts_until:%H:%M:%S} UTC at the latest).",
        "RECOVERY is at CheckWorkerConnectivity (PENDING).",
    ]


def test_a_platform_that_was_away_before_it_could_act_blames_nobody_for_that_time(core: Core) -> None:
    # given a RECOVERY whose messages wait while all of the platform is away, and then one door is open again
    job_id, worker_id, _ = running(core)
    silence(core, worker_id, 301)
    assert repair.watch_workers(core.platform) == 1
    reopen_the_door(core)

    # when
    core.drain()

    # then the worker, which its provider shows running, keeps its job until it has had the time to come back
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("RUNNING", 1)
    assert core.worker(worker_id).state == "BUSY"
    assert core.sagas(job_id, "RECOVERY")[-1].state == "CANCELLED"


def test_a_worker_that_is_back_before_it_is_given_up_keeps_its_job(core: Core) -> None:
    # given a worker that was silent for too long
    job_id, worker_id, _ = running(core)
    silence(core, worker_id, 301)
    repair.watch_workers(core.platform)

    # when it is heard again before anybody acts
    silence(core, worker_id, 0)
    core.drain()

    # then
    assert saga(core, job_id)[0] == "CANCELLED"
    assert core.job(job_id).state == "RUNNING"
    assert core.worker(worker_id).state == "BUSY"

    # and it may be lost another time
    silence(core, worker_id, 301)
    assert repair.watch_workers(core.platform) == 1
    core.drain()
    assert core.job(job_id).state == "PENDING"


def test_a_result_that_comes_before_the_fence_falls_wins(core: Core) -> None:
    # given
    job_id, worker_id, provider_id = running(core)
    lose(core, provider_id, worker_id)
    repair.watch_workers(core.platform)

    # when
    core.perform(worker_id)
    core.drain()

    # then
    assert saga(core, job_id)[0] == "CANCELLED"
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("SUCCEEDED", 1)


def test_after_the_fence_fell_the_old_attempt_is_refused_and_stale(core: Core) -> None:
    # given
    job_id, worker_id, provider_id = running(core)
    execution = core.sql("SELECT id FROM hodei.executions")[0].id
    lose(core, provider_id, worker_id)
    core.places.get(provider_id).on_stop = _away

    # when
    repair.watch_workers(core.platform)
    core.drain()

    # then
    agent = agents.AgentIdentity(worker_id=worker_id)
    beat = {"executions": [{"id": str(execution), "fence": 1}]}
    assert agents.heartbeat(core.platform, agent, beat)["stale"] == [str(execution)]
    late = refused(
        lambda: agents.report_result(
            core.platform, agent, execution, 1, {"outcome": "exited", "exit_code": 0}
        )
    )
    assert isinstance(late, StaleAttempt)
    assert core.job(job_id).state == "RUNNING"


def _away(worker_id: UUID) -> None:
    raise ProviderError(failure("ERR_5001"))


def test_without_a_word_from_the_provider_the_next_attempt_waits_for_the_lease(core: Core) -> None:
    # given a worker that cannot be ended
    job_id, worker_id, provider_id = running(core)
    core.places.get(provider_id).on_stop = _away
    silence(core, worker_id, 301)
    repair.watch_workers(core.platform)
    core.drain()

    # then nothing begins while its lease may live
    core.make_due()
    repair.dispatch(core.platform)
    core.drain()
    assert core.sql("SELECT count(*) AS n FROM workers")[0].n == 1
    assert saga(core, job_id)[1][:2] == ["COMPLETED", "IN_PROGRESS"]

    # when it has run out
    silence(core, worker_id, core.platform.settings.lease_over_s + 1)
    core.sql("UPDATE sagas SET waiting_until = clock_timestamp(), nudge_after = clock_timestamp()")
    repair.nudge_sagas(core.platform)
    core.drain()
    second_attempt(core, job_id)

    # then
    assert saga(core, job_id)[0] == "COMPLETED"
    assert core.job(job_id).attempts == 2
    told = core.sql("SELECT kind FROM hodei.worker_messages WHERE worker_id = :id ORDER BY seq", id=worker_id)
    assert told[-1].kind == "shutdown"


def test_a_provider_that_fails_as_none_should_keeps_no_job_from_its_recovery(core: Core) -> None:
    # given
    job_id, worker_id, provider_id = running(core)
    silence(core, worker_id, 301)
    assert repair.watch_workers(core.platform) == 1

    def fault(worker_id: UUID) -> ResourceView:
        raise ValueError("Expecting value: line 1 column 1")

    core.places.get(provider_id).inspect = fault  # type: ignore[method-assign]

    # when
    core.drain()

    # then
    assert (core.job(job_id).state, core.worker(worker_id).state) == ("PENDING", "TERMINATED")


def test_a_job_whose_budget_is_used_up_fails_with_the_cause(core: Core) -> None:
    # given
    job_id, worker_id, provider_id = running(core)
    core.sql("UPDATE jobs SET infra_retries = 3")
    lose(core, provider_id, worker_id)

    # when
    repair.watch_workers(core.platform)
    core.drain()

    # then
    job = core.job(job_id)
    assert (job.state, job.error_code) == ("FAILED", "ERR_2006")
    row = core.sagas(job_id, "RECOVERY")[0]
    assert (row.state, row.metadata["outcome"]) == ("FAILED", "compensated")


def test_a_cancel_in_the_middle_ends_the_job_and_the_recovery(core: Core) -> None:
    # given a recovery that waits for its worker's end
    job_id, worker_id, provider_id = running(core)
    place = core.places.get(provider_id)
    place.on_stop = _away
    silence(core, worker_id, 301)
    repair.watch_workers(core.platform)
    core.drain()

    # when
    cancel_job(core.platform, job_id, actor="test")
    core.drain()
    place.on_stop = lambda worker_id: None
    core.sql("UPDATE workers SET destroy_after = clock_timestamp()")
    repair.destroy_workers(core.platform)
    core.drain()

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert saga(core, job_id)[0] == "CANCELLED"
    assert {row.state for row in core.sagas(job_id, "CANCELLATION")} == {"COMPLETED"}
    core.make_due()
    repair.dispatch(core.platform)
    assert core.drain() == 0


def lost_before_its_start(core: Core) -> tuple[UUID, UUID]:
    """A job whose worker was lost with it in its inbox, and whose RECOVERY begins: (job, provider)."""
    provider_id = core.provider("here")
    open_the_door(core)
    job_id, worker_id = core.to_running_worker("here")
    lose(core, provider_id, worker_id)
    assert repair.watch_workers(core.platform) == 1
    return job_id, provider_id


def miss_the_start(core: Core, job_id: UUID) -> None:
    """The start's deadline passes: EXECUTION fails and is undone, whatever else waits for a controller."""
    core.sql("UPDATE hodei.executions SET created_at = created_at - interval '70 s'")
    core.sql("UPDATE workers SET registered_at = registered_at - interval '71 s'")
    [execution] = core.sagas(job_id, "EXECUTION")
    core.engine.run_step(execution.id, "ExecuteJob")
    core.engine.undo_step(execution.id, "AssignWorker")
    assert core.saga(execution.id).state == "FAILED"


def test_a_start_that_is_missed_while_the_recovery_waits_for_a_controller_is_tried_again(core: Core) -> None:
    # given
    job_id, _ = lost_before_its_start(core)

    # when
    miss_the_start(core, job_id)
    core.drain()

    # then
    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_2002")
    second_attempt(core, job_id)
    assert core.job(job_id).attempts == 2


def test_a_start_that_is_missed_while_the_provider_is_asked_is_tried_again(core: Core) -> None:
    # given
    job_id, provider_id = lost_before_its_start(core)
    place = core.places.get(provider_id)
    answer = place.inspect

    def slowly(worker_id: UUID) -> ResourceView:
        place.inspect = answer  # type: ignore[method-assign]
        miss_the_start(core, job_id)
        return answer(worker_id)

    place.inspect = slowly  # type: ignore[method-assign]

    # when
    core.drain()

    # then
    assert (core.job(job_id).state, core.job(job_id).infra_retries) == ("PENDING", 1)


def test_an_attempt_that_the_sweep_gives_up_while_its_recovery_waits_is_tried_again(core: Core) -> None:
    # given a lost worker that is gone before its RECOVERY gets a controller
    job_id, worker_id, provider_id = running(core)
    lose(core, provider_id, worker_id)
    assert repair.watch_workers(core.platform) == 1
    recovery = list(core.courier.kept)
    core.courier.kept.clear()
    core.sql("UPDATE workers SET state = 'TERMINATED', terminated_at = clock_timestamp()")

    # when
    assert cleanup.sweep(core.platform) == 1
    core.drain()
    core.courier.kept.extend(recovery)
    core.drain()

    # then
    assert (core.job(job_id).state, core.job(job_id).infra_retries) == ("PENDING", 1)
    assert core.sagas(job_id, "RECOVERY")[0].state == "CANCELLED"


def test_a_job_that_lives_again_elsewhere_is_left_alone_by_a_recovery_that_is_undone_late(core: Core) -> None:
    # given a RECOVERY without a budget, whose undoing waits while its job is cancelled and tried again
    job_id, worker_id, provider_id = running(core)
    core.sql("UPDATE jobs SET infra_retries = 99")
    lose(core, provider_id, worker_id)
    repair.watch_workers(core.platform)
    late = []
    while (message := core.courier.take()) is not None:
        if message[:2] == ("undo", "RECOVERY"):
            late.append(message)
        else:
            core.deliver(message)
    cancel_job(core.platform, job_id, actor="test")
    core.drain()
    assert core.job(job_id).state == "CANCELLED"
    retry.retry_job(core.platform, job_id, actor="test")
    core.drain()
    assert core.job(job_id).state == "SCHEDULED"

    # when
    core.courier.kept.extend(late)
    core.drain()

    # then
    assert core.sagas(job_id, "RECOVERY")[0].state == "FAILED"
    core.connect(core.job(job_id).worker_id)
    core.drain()
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("ASSIGNED", 2)


def idle_worker(core: Core) -> tuple[UUID, UUID, UUID]:
    """One that has connected and never gets its job; its provider's, the job's and its own id."""
    provider_id = core.provider("here")
    open_the_door(core)
    job_id = core.submit("here")
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    core.courier.kept.clear()
    return provider_id, job_id, worker_id


def test_an_idle_worker_that_is_lost_is_ended_and_recovers_nothing(core: Core) -> None:
    # given
    provider_id, job_id, worker_id = idle_worker(core)
    lose(core, provider_id, worker_id)

    # when
    assert repair.watch_workers(core.platform) == 1
    core.drain()

    # then
    assert core.worker(worker_id).state == "TERMINATED"
    assert core.sagas(job_id, "RECOVERY") == []


@pytest.mark.parametrize("seen", [ResourceState.RUNNING, ResourceState.LOST])
def test_an_idle_worker_that_is_heard_while_its_provider_is_asked_is_kept(
    core: Core, seen: ResourceState
) -> None:
    # given a worker without a job that was silent for too long
    provider_id, _, worker_id = idle_worker(core)
    silence(core, worker_id, 301)

    def slowly(deployment: str) -> list[ResourceView]:
        agents.heartbeat(core.platform, agents.AgentIdentity(worker_id=worker_id), {"executions": []})
        return [ResourceView(worker_id=worker_id, state=seen)]

    core.places.get(provider_id).list_workers = slowly  # type: ignore[method-assign]

    # when
    assert repair.watch_workers(core.platform) == 0
    core.drain()

    # then
    assert core.worker(worker_id).state == "READY"


@pytest.mark.parametrize("count", [120])
def test_many_silent_workers_that_run_hide_none_that_is_gone(core: Core, count: int) -> None:
    # given more silent workers than one look used to ask about; the last of them is gone
    provider_id = core.provider("here", max_workers=count)
    open_the_door(core)
    core.sql(
        "INSERT INTO workers (id, provider_id, provider_type, state, last_heartbeat, registered_at)"
        " SELECT gen_random_uuid(), :provider, 'fake', 'READY', clock_timestamp() - interval '60 s', now()"
        " FROM generate_series(1, :count)",
        provider=provider_id, count=count,
    )  # fmt: skip
    *there, gone = [row.id for row in core.sql("SELECT id FROM workers ORDER BY updated_at, id")]
    core.places.get(provider_id).made |= {worker_id: "res" for worker_id in there}

    # when
    repair.watch_workers(core.platform)
    core.drain()

    # then
    assert core.worker(gone).state == "TERMINATED"
    assert {core.worker(worker_id).state for worker_id in there} == {"READY"}
