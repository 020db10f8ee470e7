"""Time-outs that the clock enforces when the agent is gone; and what an agent that is there enforces, the clock leaves alone."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from support.core import Core, failure, open_the_door, refused, reopen_the_door
from support.core_cancel import AgentOf, pass_time, running, saga_states, settle

from hodei.domain.job import Timeouts
from hodei.errors import StaleAttempt
from hodei.providers.contract import ProviderError
from hodei.services import cleanup, deadlines, repair
from hodei.services.why import explain


def overdue(core: Core, seconds: float) -> None:
    core.sql(f"UPDATE hodei.executions SET started_at = started_at - interval '{seconds} s'")


LIMITS = {
    "ERR_1005": {"timeout_s": 30.0, "grace_s": 5.0},
    "ERR_1015": {"timeouts": Timeouts(idle_s=30.0), "grace_s": 5.0},
}


@pytest.mark.parametrize(("code", "silent_s"), [("ERR_1005", 60), ("ERR_1015", 301)])
def test_the_clock_ends_what_runs_too_long_when_the_agent_is_gone(
    core: Core, code: str, silent_s: int
) -> None:
    # given a job past its time, grace and margin, whose agent was heard of a minute ago; or, where what it wrote meanwhile cannot
    # be known, so long ago that its worker is not waited for any more
    provider_id = core.provider("here")
    open_the_door(core)
    job_id, worker_id, agent = running(core, **LIMITS[code])
    overdue(core, 51)
    pass_time(core, silent_s)

    # when
    assert deadlines.start_timeouts(core.platform) == 1
    settle(core)

    # then
    job = core.job(job_id)
    assert (job.state, job.error_code) == ("TIMEOUT", code)
    assert "agent was silent" in job.error_message
    assert core.places.get(provider_id).made == {} and core.worker(worker_id).state == "TERMINATED"
    states = saga_states(core, job_id)
    assert (states["TIMEOUT"], states["EXECUTION"]) == ("COMPLETED", "FAILED")
    assert core.events(job_id)[-1] == "JobStatusChanged TIMEOUT"
    assert core.sql("SELECT state, log_complete FROM hodei.executions") == [
        {"state": "timeout", "log_complete": False}
    ]
    assert isinstance(refused(agent.report), StaleAttempt)
    assert deadlines.start_timeouts(core.platform) == 0


@pytest.mark.parametrize(
    ("code", "overdue_s", "silent_s"),
    [("ERR_1005", 49, 60), ("ERR_1005", 51, 0), ("ERR_1015", 51, 290)],
    ids=["its margin is not over", "its agent is there", "it may have written while its line was cut"],
)
def test_the_clock_leaves_alone_what_the_agent_can_end(
    core: Core, code: str, overdue_s: int, silent_s: int
) -> None:
    core.provider("here")
    open_the_door(core)
    job_id, _, _ = running(core, **LIMITS[code])
    overdue(core, overdue_s)
    pass_time(core, silent_s)

    assert deadlines.start_timeouts(core.platform) == 0
    assert core.sagas(job_id, "TIMEOUT") == []


def test_many_that_wait_for_their_hosts_lease_hide_none_that_runs_out_of_its_time(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two jobs for each look, all of them out of their time on a host that is gone
    monkeypatch.setattr(deadlines, "BATCH", 2)
    provider_id = core.provider("here")
    core.places.get(provider_id).on_stop = _away
    open_the_door(core)
    for _ in range(4):
        running(core, **LIMITS["ERR_1005"])
    overdue(core, 51)
    pass_time(core, 60)

    # when
    started = []
    for _ in range(3):
        started.append(deadlines.start_timeouts(core.platform))
        settle(core)

    # then
    assert started == [2, 2, 0]


def _away(worker_id: UUID) -> None:
    raise ProviderError(failure("ERR_5001"), transient=True)


def test_nobody_runs_out_of_time_while_no_door_is_open(core: Core) -> None:
    core.provider("here")
    running(core, **LIMITS["ERR_1005"])
    overdue(core, 3600)
    pass_time(core, 3600)

    assert deadlines.start_timeouts(core.platform) == 0


@pytest.mark.parametrize("first", ["EXECUTION", "TIMEOUT"])
def test_a_result_that_comes_while_the_worker_is_being_ended_wins(core: Core, first: str) -> None:
    # given a TIMEOUT that waits for a provider which does not answer
    provider_id = core.provider("here")
    open_the_door(core)
    job_id, worker_id, agent = running(core, **LIMITS["ERR_1005"])
    core.places.get(provider_id).on_stop = _away
    overdue(core, 60)
    pass_time(core, 60)
    deadlines.start_timeouts(core.platform)
    core.drain()
    assert core.job(job_id).state == "RUNNING"

    # when
    agent.report(0)
    if first == "TIMEOUT":  # with its worker gone, too
        late = list(core.courier.kept)
        core.courier.kept.clear()
        core.places.get(provider_id).on_stop = lambda worker_id: None
        core.deliver(("destroy", worker_id))
        core.drain()
        assert core.job(job_id).state == "RUNNING"
        core.courier.kept.extend(late)
    settle(core)

    # then
    assert core.job(job_id).state == "SUCCEEDED"
    assert saga_states(core, job_id) == dict.fromkeys(["PROVISIONING", "EXECUTION", "TIMEOUT"], "COMPLETED")


def test_a_job_out_of_its_time_whose_worker_is_ended_has_not_lost_it(core: Core) -> None:
    # given a TIMEOUT that has ended the worker, and whose controller died before it ended the attempt
    core.provider("here")
    open_the_door(core)
    job_id, worker_id, _ = running(core, **LIMITS["ERR_1005"])
    overdue(core, 60)
    pass_time(core, 60)
    assert deadlines.start_timeouts(core.platform) == 1
    with core.database.begin() as tx:
        tx.scalar("worker_set_terminating", id=worker_id, destroy_in_s=0.0, reason="its job ran out of time")
    core.deliver(("destroy", worker_id))
    assert core.worker(worker_id).state == "TERMINATED"

    # when the clock looks for attempts without a worker
    assert cleanup.sweep(core.platform) == 0
    settle(core)

    # then it has its one end, and no other attempt
    job = core.job(job_id)
    assert (job.state, job.error_code, job.attempts) == ("TIMEOUT", "ERR_1005", 1)


def test_a_job_out_of_its_time_whose_worker_is_found_gone_has_not_lost_it(core: Core) -> None:
    # given a TIMEOUT that waits for a controller, and a host that is gone
    provider_id = core.provider("here")
    open_the_door(core)
    job_id, worker_id, _ = running(core, **LIMITS["ERR_1005"])
    overdue(core, 60)
    pass_time(core, 60)
    assert deadlines.start_timeouts(core.platform) == 1
    core.places.get(provider_id).made.pop(worker_id)

    # when
    assert repair.watch_workers(core.platform) == 1
    settle(core)

    # then
    job = core.job(job_id)
    assert (job.state, job.error_code, job.attempts) == ("TIMEOUT", "ERR_1005", 1)
    assert core.worker(worker_id).state == "TERMINATED"
    assert core.sagas(job_id, "RECOVERY") == []


def test_an_agent_that_is_back_ends_its_job_itself_and_a_later_silence_counts_again(core: Core) -> None:
    # given a TIMEOUT whose messages wait, and an agent that is heard meanwhile
    core.provider("here")
    open_the_door(core)
    job_id, worker_id, _ = running(core, **LIMITS["ERR_1005"])
    overdue(core, 60)
    pass_time(core, 60)
    deadlines.start_timeouts(core.platform)
    core.sql("UPDATE workers SET last_heartbeat = clock_timestamp()")

    # when
    settle(core)

    # then it is left alone
    assert (core.job(job_id).state, core.worker(worker_id).state) == ("RUNNING", "BUSY")
    assert saga_states(core, job_id)["TIMEOUT"] == "COMPLETED"

    # when it is gone again
    pass_time(core, 60)
    assert deadlines.start_timeouts(core.platform) == 1
    settle(core)

    # then
    assert core.job(job_id).state == "TIMEOUT"


def test_why_says_that_a_job_ran_out_of_its_time_and_what_its_end_waits_for(core: Core) -> None:
    # given a host that is gone for good
    provider_id = core.provider("here")
    core.places.get(provider_id).on_stop = _away
    open_the_door(core)
    job_id, worker_id, _ = running(core, **LIMITS["ERR_1005"])
    overdue(core, 51)
    pass_time(core, 60)

    # when
    deadlines.start_timeouts(core.platform)
    settle(core)

    # then
    lease_ends = core.worker(worker_id).last_heartbeat + timedelta(
        seconds=core.platform.settings.lease_over_s
    )
    said = explain(core.platform, job_id)
    assert said["summary"] == (
        f"It ran out of its time, and its worker {worker_id} (here) is silent: it ends once nothing of that worker is left, "
        f"or at {lease_ends:%H:%M:%S} UTC, when its agent has ended it by its own clock."
    )
    assert said["details"][0] == "EXECUTION is at ExecuteJob (IN_PROGRESS)."
    assert said["details"][1].startswith("TIMEOUT is at TerminateWorker (IN_PROGRESS, looks again at ")


def test_a_time_out_is_tried_again_when_retries_were_asked_for(core: Core) -> None:
    core.provider("here")
    open_the_door(core)
    job_id, _, _ = running(core, retries=1, **LIMITS["ERR_1005"])
    overdue(core, 60)
    pass_time(core, 60)
    deadlines.start_timeouts(core.platform)
    settle(core)

    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_1005")
    assert core.events(job_id)[-1] == "JobRetried"


def test_the_next_attempt_waits_until_the_last_ones_worker_is_gone(core: Core) -> None:
    """An agent that took its job and never said that it started may be running it."""
    # given
    provider_id = core.provider("here")
    open_the_door(core)
    job_id, worker_id = core.to_running_worker("here")
    AgentOf(core, worker_id).accept()
    stuck = True

    def away(_: object) -> None:
        if stuck:
            raise ProviderError(failure("ERR_5001"))

    core.places.get(provider_id).on_stop = away
    core.sql("UPDATE hodei.executions SET created_at = created_at - interval '70 s'")
    core.sql("UPDATE public.workers SET registered_at = registered_at - interval '71 s'")
    settle(core)
    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_2002")

    # when its worker cannot be ended
    core.make_due()
    core.deliver(("look",))

    # then it waits, and that is no waiting in the queue
    assert core.job(job_id).state == "PENDING"
    core.sql("UPDATE jobs SET queued_at = clock_timestamp() - interval '2 days', due_at = queued_at")
    assert repair.end_overdue_jobs(core.platform) == 0
    core.sql("UPDATE jobs SET queued_at = clock_timestamp()")

    # when it can
    stuck = False
    core.deliver(("destroy", worker_id))
    settle(core)

    # then
    assert core.job(job_id).state == "SCHEDULED"


def test_a_platform_that_was_away_before_it_could_act_blames_nobody_for_that_time(core: Core) -> None:
    # given a TIMEOUT whose messages wait while all of the platform is away, and then one door is open again
    core.provider("here")
    open_the_door(core)
    job_id, worker_id, agent = running(core, **LIMITS["ERR_1005"])
    overdue(core, 60)
    pass_time(core, 60)
    deadlines.start_timeouts(core.platform)
    reopen_the_door(core)

    # when
    settle(core)

    # then the agent is given the time to say how its job ended
    assert (core.job(job_id).state, core.worker(worker_id).state) == ("RUNNING", "BUSY")
    agent.report(0)
    settle(core)
    assert core.job(job_id).state == "SUCCEEDED"
