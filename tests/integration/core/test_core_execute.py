"""Executing a definition by hand: what is held, what has ended, and nothing else."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from support.core import Core, failure, refused

from hodei.domain.job import JobSpec
from hodei.errors import Conflict, InvalidInput, NotFound
from hodei.providers.contract import ProviderError, WorkerRequest
from hodei.services import cancel, history, logs, repair, retry
from hodei.services.execute import execute
from hodei.services.idempotency import RequestKey
from hodei.services.pipelines.create import NewPipeline, create_pipeline
from hodei.services.submit import NewJob, submit_job


def held(core: Core, **spec: Any) -> UUID:
    """A definition without a command."""
    plain = create_pipeline(core.platform, NewPipeline(name=f"p-{uuid4()}"), actor="test")
    new = NewJob(name="d", spec=JobSpec(provider="here", **spec), pipeline_id=plain["id"])
    return submit_job(core.platform, new, actor="test", request_id=None)["id"]


def run(core: Core, job_id: UUID, command: str | None = None, **more: Any) -> dict[str, Any]:
    return execute(core.platform, job_id, command, actor="test", **({"wait_s": 0.0} | more))


def perform(core: Core, job_id: UUID, exit_code: int = 0) -> None:
    """Have the job's attempt run to its end."""
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    core.drain()
    if core.job(job_id).attempts == 1:
        core.perform(worker_id, exit_code=exit_code)
    else:
        core.perform_attempt(worker_id, core.job(job_id).attempts)
    core.drain()


def test_a_definition_is_executed_with_the_command_that_it_is_given(core: Core) -> None:
    # given
    core.provider("here")
    job_id = held(core)

    # when
    begun = run(core, job_id, "echo hello")

    # then its execution is known before it has a worker
    assert begun == {
        "id": begun["id"], "job_id": job_id, "command": "echo hello", "status": "pending", "started_at": None,
    }  # fmt: skip
    execution = history.get_execution(core.platform, begun["id"])
    assert (execution["status"], execution["attempt"], execution["worker_id"]) == ("pending", 1, None)
    view = logs.find(core.platform, logs.Which(execution_id=begun["id"]))
    assert (view.job_id, view.attempt, view.ended, view.log) == (job_id, 1, False, None)

    # when
    perform(core, job_id)

    # then it is that one
    execution = history.get_execution(core.platform, begun["id"])
    assert (execution["status"], execution["command"], execution["exit_code"]) == (
        "completed",
        "echo hello",
        0,
    )
    assert (core.job(job_id).state, core.job(job_id).held) == ("SUCCEEDED", False)
    assert core.events(job_id) == [
        "JobCreated",
        "JobExecuteRequested",
        "JobAssigned",
        "JobAccepted",
        "JobStatusChanged RUNNING",
        "JobStatusChanged SUCCEEDED",
    ]


@pytest.mark.parametrize("exit_code", [0, 3])
def test_what_has_ended_is_executed_again_as_a_further_attempt(core: Core, exit_code: int) -> None:
    # given
    core.provider("here")
    job_id = core.submit("here", command="one")
    perform(core, job_id, exit_code)

    # when
    begun = run(core, job_id, "two")
    perform(core, job_id)

    # then
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("SUCCEEDED", 2)
    assert core.job(job_id).error_code is None
    done = history.job_executions(core.platform, job_id).items
    assert [(one["attempt"], one["command"]) for one in done] == [(1, "one"), (2, "two")]
    assert done[1]["id"] == begun["id"]


def test_without_a_command_it_runs_what_it_has_with_all_of_its_budgets(core: Core) -> None:
    # given a job whose retries are used up
    core.provider("here")
    job_id = core.submit("here", command="one", retries=2)
    core.sql(
        "UPDATE jobs SET state = 'FAILED', attempts = 3, user_retries = 0, infra_retries = 3, max_attempts = 3"
    )

    # when
    begun = run(core, job_id)

    # then
    job = core.job(job_id)
    assert begun["command"] == "one"
    assert (job.state, job.user_retries, job.infra_retries, job.max_attempts) == ("PENDING", 2, 0, 6)
    assert job.completed_at is None


def test_a_script_gives_way_to_a_command(core: Core) -> None:
    core.provider("here")
    job_id = held(core, script="#!/bin/sh\ntrue", args=("x",))
    core.sql("UPDATE jobs SET state = 'FAILED'")

    run(core, job_id, "echo hello")

    spec = core.job(job_id).spec
    assert (spec["command"], spec["script"], spec["args"]) == ("echo hello", None, None)


@pytest.mark.parametrize("state", ["PENDING", "SCHEDULED", "ASSIGNED", "RUNNING"])
def test_what_is_queued_or_running_is_not_executed_besides(core: Core, state: str) -> None:
    core.provider("here")
    job_id = core.submit("here")
    core.sql("UPDATE jobs SET state = :state", state=state)

    error = refused(lambda: run(core, job_id, "x"))

    assert isinstance(error, Conflict)
    assert core.job(job_id).spec["command"] == "true"


def test_what_has_nothing_to_run_is_refused(core: Core) -> None:
    core.provider("here")

    error = refused(lambda: run(core, held(core)))

    assert isinstance(error, InvalidInput)
    assert error.field == "command"
    assert isinstance(refused(lambda: run(core, uuid4(), "x")), NotFound)


def test_a_job_whose_secrets_were_forgotten_is_not_executed_again(core: Core) -> None:
    core.provider("here")
    job_id = core.submit("here", secret_names=("TOKEN",))
    core.sql("UPDATE jobs SET state = 'SUCCEEDED'")

    assert isinstance(refused(lambda: run(core, job_id)), Conflict)


def test_a_job_that_succeeded_is_executed_again_but_never_retried(core: Core) -> None:
    core.provider("here")
    job_id = core.submit("here")
    perform(core, job_id)

    assert isinstance(refused(lambda: retry.retry_job(core.platform, job_id, actor="test")), Conflict)
    assert run(core, job_id)["status"] == "pending"


def test_an_execution_that_never_began_ends_as_its_job_and_may_be_asked_for_again(core: Core) -> None:
    # given
    core.provider("here")
    job_id = held(core)
    begun = run(core, job_id, "x")

    # when
    cancel.cancel_job(core.platform, job_id, actor="test")

    # then
    execution = history.get_execution(core.platform, begun["id"])
    assert (execution["status"], execution["completed_at"] is not None) == ("cancelled", True)
    assert logs.find(core.platform, logs.Which(execution_id=begun["id"])).ended

    # when
    again = run(core, job_id, "y")

    # then it is the attempt that the first one would have been
    assert again["id"] == begun["id"]
    assert history.get_execution(core.platform, begun["id"])["status"] == "pending"
    perform(core, job_id)
    assert history.get_execution(core.platform, begun["id"])["status"] == "completed"


def test_one_that_could_not_be_made_says_why(core: Core) -> None:
    # given
    place = core.places.get(core.provider("here"))

    def broken(request: WorkerRequest) -> None:
        raise ProviderError(failure("ERR_3001"))

    place.on_start = broken
    begun = run(core, held(core), "x")

    # when
    core.drain()

    # then
    execution = history.get_execution(core.platform, begun["id"])
    assert (execution["status"], execution["error"]["code"]) == ("failed", "ERR_3001")


def test_the_same_request_executes_once(core: Core) -> None:
    # given
    core.provider("here")
    job_id = held(core)
    key = RequestKey.of("POST /execute", "k", b"body")

    # when
    first, second = (run(core, job_id, "x", key=key) for _ in range(2))
    perform(core, job_id)
    third, fourth = (run(core, job_id, "x", key=key) for _ in range(2))

    # then
    assert str(first["id"]) == str(second["id"]) == str(third["id"])
    assert third["status"] == fourth["status"] == "completed"
    assert core.job(job_id).attempts == 1


def test_its_time_in_the_queue_counts_from_its_execution(core: Core) -> None:
    core.provider("here", status="DISABLED")
    job_id = held(core)
    core.sql(
        "UPDATE jobs SET queued_at = queued_at - interval '10 d', created_at = created_at - interval '10 d'"
    )

    run(core, job_id, "x")

    assert repair.end_overdue_jobs(core.platform) == 0
    assert core.job(job_id).state == "PENDING"
