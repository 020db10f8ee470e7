"""EXECUTION undone: a result that came meanwhile, and a worker that has gone on meanwhile."""

from __future__ import annotations

from uuid import UUID

import pytest
from support.core import Core, open_the_door
from support.core_cancel import CANCELLED, AgentOf, ask, running, saga_states, settle

from hodei.services import delete, dispatch, retry


def failing_to_start(core: Core, **spec: object) -> tuple[UUID, UUID, AgentOf]:
    """A job whose agent took too long to start it: its EXECUTION has failed, and the undoing's message is on its way."""
    core.provider("here")
    open_the_door(core)
    job_id, worker_id = core.to_running_worker("here", **spec)
    agent = AgentOf(core, worker_id)
    agent.accept()
    core.sql("UPDATE hodei.executions SET created_at = created_at - interval '70 s'")
    core.sql("UPDATE workers SET registered_at = registered_at - interval '71 s'")
    [execution] = core.sagas(job_id, "EXECUTION")
    core.engine.run_step(execution.id, "ExecuteJob")
    assert core.saga(execution.id).state == "COMPENSATING"
    return job_id, worker_id, agent


@pytest.mark.parametrize(
    ("exit_code", "state", "error_code"), [(0, "SUCCEEDED", None), (3, "FAILED", "ERR_1007")]
)
def test_a_result_that_comes_before_the_undoing_is_the_jobs_end(
    core: Core, exit_code: int, state: str, error_code: str | None
) -> None:
    # given
    job_id, worker_id, agent = failing_to_start(core)

    # when
    agent.started()
    agent.report(exit_code)
    settle(core)

    # then
    job = core.job(job_id)
    assert (job.state, job.error_code, job.exit_code, job.attempts) == (state, error_code, exit_code, 1)
    assert core.worker(worker_id).state == "TERMINATED"
    assert saga_states(core, job_id)["EXECUTION"] == "FAILED"
    assert core.events(job_id).count(f"JobStatusChanged {state}") == 1
    [attempt] = core.sql("SELECT state, log_complete, log_to_export FROM hodei.executions")
    assert (attempt.state, attempt.log_complete, attempt.log_to_export) == (
        "completed" if exit_code == 0 else "failed", True, True,
    )  # fmt: skip


def test_a_failure_that_comes_before_the_undoing_is_tried_again_as_its_own(core: Core) -> None:
    # given
    job_id, _, agent = failing_to_start(core, retries=1)

    # when
    agent.report(3)
    settle(core)

    # then the user's budget has paid, once
    job = core.job(job_id)
    assert (job.state, job.error_code, job.user_retries, job.infra_retries) == ("PENDING", "ERR_1007", 0, 0)
    assert core.events(job_id).count("JobRetried") == 1


def test_a_result_that_comes_before_the_undoing_wins_against_a_cancel_too(core: Core) -> None:
    # given
    job_id, _, agent = failing_to_start(core)

    # when
    agent.report(0)
    ask(core, job_id)
    settle(core)

    # then
    assert core.job(job_id).state == "SUCCEEDED"
    assert saga_states(core, job_id)["CANCELLATION"] == "COMPLETED"


def of_many_jobs(core: Core, worker_id: UUID) -> UUID:
    """The worker goes on after its job, as one that was made by hand does."""
    core.sql("UPDATE workers SET max_jobs = 0 WHERE id = :id", id=worker_id)
    return worker_id


def cancelled_before_its_saga_knows(core: Core, job_id: UUID) -> None:
    """The job's CANCELLATION is over, and every message for its EXECUTION is lost."""
    ask(core, job_id)
    [cancellation] = core.sagas(job_id, "CANCELLATION")
    for step in ("ValidateCancellation", "NotifyWorker", "UpdateJobState", "ReleaseWorker"):
        core.engine.run_step(cancellation.id, step)
    core.courier.kept.clear()
    assert core.job(job_id).state == "CANCELLED"


def takes(core: Core, worker_id: UUID) -> AgentOf:
    """The worker gets what waits in the queue, and starts it."""
    dispatch.look(core.platform)
    core.drain()
    agent = AgentOf(core, worker_id)
    agent.accept()
    agent.started()
    return agent


def test_a_worker_that_runs_another_job_by_now_keeps_it(core: Core) -> None:
    # given an attempt that was revoked, and whose saga does not know yet
    core.provider("here")
    first, worker_id = core.to_running_worker("here")
    of_many_jobs(core, worker_id)
    cancelled_before_its_saga_knows(core, first)
    second = core.submit("here")
    takes(core, worker_id)

    # when it does
    settle(core)

    # then
    assert saga_states(core, first)["EXECUTION"] == "CANCELLED"
    assert (core.job(second).state, core.job(second).worker_id) == ("RUNNING", worker_id)
    assert core.worker(worker_id).state == "BUSY"


def test_a_worker_that_runs_the_same_jobs_next_attempt_by_now_keeps_it(core: Core) -> None:
    # given
    core.provider("here")
    job_id, worker_id = core.to_running_worker("here")
    of_many_jobs(core, worker_id)
    cancelled_before_its_saga_knows(core, job_id)
    retry.retry_job(core.platform, job_id, actor="test")
    takes(core, worker_id)

    # when
    settle(core)

    # then
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("RUNNING", 2)
    assert core.worker(worker_id).state == "BUSY"


def test_a_worker_whose_last_job_was_deleted_keeps_the_one_that_it_has(core: Core) -> None:
    # given a job that was cancelled by its agent and deleted before its saga knew
    core.provider("here")
    first, worker_id, agent = running(core)
    of_many_jobs(core, worker_id)
    ask(core, first)
    core.drain()
    agent.report(**CANCELLED)
    core.engine.run_step(core.sagas(first, "CANCELLATION")[0].id, "UpdateJobState")
    delete.delete_job(core.platform, first, actor="test")
    core.courier.kept.clear()
    second = core.submit("here")
    takes(core, worker_id)

    # when
    settle(core)

    # then
    assert core.job(second).state == "RUNNING"
    assert core.worker(worker_id).state == "BUSY"


def test_an_attempt_of_a_later_try_is_not_ended_by_the_saga_of_the_one_before(core: Core) -> None:
    # given a worker that connects too late, whose EXECUTION has only looked at the job when its making is undone
    core.provider("here")
    open_the_door(core)
    job_id = core.submit("here")
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.sql("UPDATE sagas SET metadata = metadata || jsonb_build_object('deadline', clock_timestamp())")
    core.engine.run_step(core.sagas(job_id, "PROVISIONING")[0].id, "PublishProvisionedEvent")
    undoing = list(core.courier.kept)
    core.courier.kept.clear()
    core.connect(worker_id)
    [late] = core.sagas(job_id, "EXECUTION")
    core.engine.run_step(late.id, "ValidateJob")
    core.courier.kept.clear()
    core.courier.kept.extend(undoing)
    core.drain()
    assert core.job(job_id).state == "PENDING"

    # when the next try has begun before that EXECUTION goes on
    core.make_due()
    dispatch.look(core.platform)
    core.drain()
    second = core.job(job_id).worker_id
    core.connect(second)
    core.drain()
    agent = AgentOf(core, second)
    agent.accept()
    agent.started()
    settle(core)

    # then
    assert core.saga(late.id).state == "FAILED"
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("RUNNING", 1)
    assert core.sql("SELECT state FROM hodei.executions") == [{"state": "running"}]
