"""EXECUTION undone: a result that came meanwhile, and a worker that has gone on meanwhile."""

from __future__ import annotations

from uuid import UUID

import pytest
from support.core import Core, open_the_door
from support.core_cancel import AgentOf, ask, saga_states, settle


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
