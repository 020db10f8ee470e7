"""Further attempts: those that a job's budgets pay, and those that somebody asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from support.core import Core, fresh_id, refused
from support.core_cancel import CANCELLED, AgentOf, ask, running, settle

from hodei.domain.job import JobSpec
from hodei.errors import Conflict, NotFound
from hodei.services import delete, execute, retry
from hodei.services.idempotency import RequestKey
from hodei.services.jobs import get_job
from hodei.services.submit import NewJob, submit_job


def again(core: Core, job_id: UUID, **more: Any) -> dict[str, Any]:
    return retry.retry_job(core.platform, job_id, actor="test", **more)


def next_attempt(core: Core, job_id: UUID) -> AgentOf:
    """The queue's turn comes, a worker is made and connects, the agent starts the job."""
    core.make_due()
    core.deliver(("look",))
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    core.drain()
    agent = AgentOf(core, worker_id)
    agent.accept()
    agent.started()
    return agent


@pytest.mark.parametrize(
    ("spec", "exit_codes", "state"),
    [
        ({}, [3], "FAILED"),
        ({"retries": 2}, [3, 3, 3], "FAILED"),
        ({"retries": 2}, [3, 0], "SUCCEEDED"),
        ({"retries": 2, "retry_on": (75,)}, [75, 3], "FAILED"),
        ({"retries": 2, "retry_on": (75,)}, [3], "FAILED"),
    ],
)
def test_a_users_failure_is_tried_again_only_as_asked(
    core: Core, spec: dict[str, Any], exit_codes: list[int], state: str
) -> None:
    core.provider("here")
    job_id, _, agent = running(core, **spec)
    for number, exit_code in enumerate(exit_codes):
        if number:
            agent = next_attempt(core, job_id)
        agent.report(exit_code)
        core.drain()

    job = core.job(job_id)
    assert (job.state, job.attempts, job.exit_code) == (state, len(exit_codes), exit_codes[-1])
    assert core.events(job_id).count("JobRetried") == len(exit_codes) - 1
    executions = core.sql("SELECT attempt, exit_code FROM hodei.executions ORDER BY attempt")
    assert [row.exit_code for row in executions] == exit_codes
    files = core.sql("SELECT DISTINCT execution_id, storage_uri FROM job_log_files")
    assert len(files) == len(exit_codes)  # each attempt has a log of its own


def test_a_retry_waits_in_the_queue_until_its_back_off_is_over(core: Core) -> None:
    core.provider("here")
    job_id, _, agent = running(core, retries=1)
    agent.report(3)
    core.drain()

    [row] = core.sql("SELECT extract(epoch FROM due_at - queued_at)::float8 AS waits_s FROM jobs")
    assert 0.4 < row.waits_s <= 1.1
    core.deliver(("look",))
    assert core.job(job_id).state == "PENDING"


@pytest.mark.parametrize("end", ["FAILED", "TIMEOUT", "CANCELLED"])
def test_a_finished_job_is_tried_again_by_hand(core: Core, end: str) -> None:
    # given
    core.provider("here")
    job_id, _, agent = running(core)
    if end == "CANCELLED":
        ask(core, job_id)
        core.drain()
        agent.report(**CANCELLED)
    elif end == "TIMEOUT":
        agent.report(143, outcome="timeout", error_code="ERR_1005", error_message="It took too long.")
    else:
        agent.report(3)
    settle(core)
    assert core.job(job_id).state == end
    core.sql("UPDATE jobs SET infra_retries = 3")

    # when
    answer = again(core, job_id)

    # then it waits as if it had never ended
    assert (answer["status"], answer["max_attempts"], answer["error"], answer["exit_code"]) == (
        "pending", 2, None, None,
    )  # fmt: skip
    assert answer["completed_at"] is answer["started_at"] is answer["cancel_requested_at"] is None
    assert core.job(job_id).infra_retries == 0

    # when
    next_attempt(core, job_id).report(0)
    settle(core)

    # then
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("SUCCEEDED", 2)
    assert core.events(job_id).count("JobRetried") == 1
    assert len(core.sql("SELECT 1 FROM job_log_files")) == 2


def test_what_goes_on_or_went_well_is_not_tried_again(core: Core) -> None:
    core.provider("here")
    job_id, _, agent = running(core)
    refusal = refused(lambda: again(core, job_id))
    assert isinstance(refusal, Conflict) and "RUNNING" in refusal.message

    agent.report(0)
    core.drain()

    refusal = refused(lambda: again(core, job_id))
    assert isinstance(refusal, Conflict) and "SUCCEEDED" in refusal.message
    assert isinstance(refused(lambda: again(core, fresh_id())), NotFound)


def test_a_retry_that_is_sent_twice_with_its_key_is_one(core: Core) -> None:
    core.provider("here")
    job_id, _, agent = running(core)
    agent.report(3)
    core.drain()
    key = RequestKey.of("retry", "k", b"")

    first = again(core, job_id, key=key)
    next_attempt(core, job_id).report(3)
    core.drain()
    second = again(core, job_id, key=key)

    assert str(second["id"]) == str(first["id"]) and second["status"] == "pending"
    assert core.job(job_id).state == "FAILED"


def test_a_job_whose_secrets_are_forgotten_is_not_tried_again(core: Core) -> None:
    spec = JobSpec(command="true", provider="here", secret_names=("KEY",))
    core.provider("here", max_workers=0)
    new = NewJob(name="t", spec=spec, secrets={"KEY": "a secret"})
    job_id = submit_job(core.platform, new, actor="test", request_id=None)["id"]
    ask(core, job_id)

    refusal = refused(lambda: again(core, job_id))

    assert isinstance(refusal, Conflict) and "secrets" in refusal.message


def test_a_finished_job_is_deleted_with_its_log_and_its_record_stays(core: Core) -> None:
    # given
    core.provider("here")
    job_id, _, agent = running(core)
    assert isinstance(refused(lambda: delete.delete_job(core.platform, job_id, actor="test")), Conflict)
    agent.report(0)
    settle(core)
    [file] = core.sql("SELECT storage_uri FROM job_log_files")
    path = Path(urlsplit(file.storage_uri).path)
    assert path.exists()

    # when
    delete.delete_job(core.platform, job_id, actor="test")

    # then
    assert isinstance(refused(lambda: get_job(core.platform, job_id)), NotFound)
    assert not path.exists()
    for table in ("jobs", "hodei.executions", "job_log_files", "hodei.log_chunks", "hodei.secrets"):
        assert core.sql(f"SELECT 1 FROM {table}") == [], table
    assert core.events(job_id)[-1] == "JobDeleted"
    assert len(core.sagas(job_id)) == 2
    assert isinstance(refused(lambda: delete.delete_job(core.platform, job_id, actor="test")), NotFound)


def cancelled_by_its_agent(core: Core) -> tuple[UUID, UUID]:
    """A job that is CANCELLED while the messages for its attempt's EXECUTION are lost: (job, EXECUTION)."""
    core.provider("here")
    job_id, _, agent = running(core)
    ask(core, job_id)
    core.drain()
    agent.report(**CANCELLED)
    core.courier.kept.clear()
    core.engine.run_step(core.sagas(job_id, "CANCELLATION")[0].id, "UpdateJobState")
    core.courier.kept.clear()
    assert core.job(job_id).state == "CANCELLED"
    return job_id, core.sagas(job_id, "EXECUTION")[0].id


def execute_again(core: Core, job_id: UUID) -> None:
    execute.execute(core.platform, job_id, None, actor="test", wait_s=0.0)


@pytest.mark.parametrize("ask_again", [again, execute_again])
def test_a_cancelled_attempt_whose_saga_comes_late_does_not_end_the_queued_job(
    core: Core, ask_again: Callable[[Core, UUID], object]
) -> None:
    # given
    job_id, late = cancelled_by_its_agent(core)

    # when it is asked for again before the saga is looked at
    ask_again(core, job_id)
    settle(core)

    # then
    assert core.job(job_id).state == "SCHEDULED"
    assert core.saga(late).state == "CANCELLED"


@pytest.mark.parametrize("ask_again", [again, execute_again])
def test_a_cancelled_attempt_whose_saga_comes_late_does_not_end_the_next_one(
    core: Core, ask_again: Callable[[Core, UUID], object]
) -> None:
    # given
    job_id, late = cancelled_by_its_agent(core)

    # when it is asked for again, and runs before the saga is looked at
    ask_again(core, job_id)
    agent = next_attempt(core, job_id)
    settle(core)

    # then
    assert core.job(job_id).state == "RUNNING"
    assert core.saga(late).state == "CANCELLED"
    agent.report(0)
    settle(core)
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("SUCCEEDED", 2)
