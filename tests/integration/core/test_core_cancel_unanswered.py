"""A cancel whose agent does not answer: who ends the worker then, when, and who is not blamed."""

from __future__ import annotations

import re

from support.core import Core, failure, open_the_door
from support.core_cancel import ask, pass_time, running, saga_states, settle

from hodei.providers.contract import ProviderError
from hodei.services import cleanup, repair, why


def test_an_agent_that_does_not_answer_has_its_worker_ended_by_the_provider(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    job_id, worker_id, _ = running(core, grace_s=10.0)
    open_the_door(core)
    ask(core, job_id)
    core.drain()

    # when grace and margin have passed
    pass_time(core, 19, wish=True)
    repair.nudge_sagas(core.platform)
    core.drain()
    assert core.worker(worker_id).state == "BUSY"
    pass_time(core, 2, wish=True)
    settle(core)

    # then
    assert core.places.get(provider_id).made == {}
    assert core.job(job_id).state == "CANCELLED" and core.job(job_id).error_code == "ERR_1016"
    assert saga_states(core, job_id)["EXECUTION"] == "CANCELLED"


def test_our_own_downtime_is_no_agents_silence_to_a_cancel(core: Core) -> None:
    # given a cancel, and doors that were away while the agent might have answered
    provider_id = core.provider("here")
    job_id, worker_id, _ = running(core, grace_s=10.0)
    ask(core, job_id)
    core.drain()
    pass_time(core, 40, wish=True)
    settle(core)
    assert core.worker(worker_id).state == "BUSY"
    open_the_door(core, for_s=15)
    settle(core)
    assert core.worker(worker_id).state == "BUSY"

    # when a door has been open for grace and margin
    core.sql("DELETE FROM hodei.loops")
    open_the_door(core, for_s=25)
    settle(core)

    # then its provider ends the worker
    assert core.places.get(provider_id).made == {}
    assert core.job(job_id).state == "CANCELLED"


def test_when_nobody_answers_the_lease_ends_it_and_the_job_says_so(core: Core) -> None:
    # given a host that is gone for good
    provider_id = core.provider("here")
    job_id, worker_id, _ = running(core)

    def gone(_: object) -> None:
        raise ProviderError(failure("ERR_5001"))

    core.places.get(provider_id).on_stop = gone
    open_the_door(core)
    ask(core, job_id)
    core.drain()

    # when the cancel's time is over and the lease is not
    pass_time(core, 120, wish=True)
    settle(core)

    # then
    assert core.job(job_id).state == "RUNNING"
    said = why.explain(core.platform, job_id)
    assert "lease" in said["summary"]
    assert re.match(r"A cancel was asked for 1[2-9]\d s ago", said["summary"])
    assert said["since"] == core.job(job_id).cancel_requested_at

    # when it has run out, too
    pass_time(core, core.platform.settings.lease_over_s, wish=True)
    settle(core)

    # then
    job = core.job(job_id)
    assert (job.state, job.error_code) == ("CANCELLED", "ERR_2006")
    assert "lease has run out" in job.error_message
    assert core.worker(worker_id).state == "TERMINATING"  # the clock goes on trying


def test_the_end_of_a_worker_that_is_lost_while_its_job_is_cancelled_confirms_it(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    job_id, worker_id, _ = running(core)
    ask(core, job_id)
    core.drain()

    # when its container is gone, and the clock finds that out
    core.places.get(provider_id).made.clear()
    core.sql(
        "INSERT INTO hodei.loops (name, owner, interval_s, detail) VALUES ('door:t', 't', 5, "
        "jsonb_build_object('up_since', clock_timestamp() - interval '2 h'))"
    )
    core.sql("UPDATE workers SET last_heartbeat = clock_timestamp() - interval '60 s'")
    repair.watch_workers(core.platform)
    settle(core)
    pass_time(core, 25, wish=True)  # its grace, and the time for an answer
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED"
    assert core.worker(worker_id).state == "TERMINATED"
    assert "JobRetried" not in core.events(job_id)


def test_the_sweep_leaves_an_attempt_to_the_cancel_that_has_ended_its_worker(core: Core) -> None:
    # given a cancel whose worker is ended by the provider, and whose next look is yet to come
    core.provider("here")
    job_id, worker_id, _ = running(core)
    open_the_door(core)
    ask(core, job_id)
    core.drain()
    pass_time(core, 100, wish=True)
    [cancellation] = core.sagas(job_id, "CANCELLATION")
    core.engine.run_step(cancellation.id, "UpdateJobState")
    core.deliver(("destroy", worker_id))
    core.courier.kept.clear()
    assert core.worker(worker_id).state == "TERMINATED"

    # when
    assert cleanup.sweep(core.platform) == 0
    settle(core)

    # then it was cancelled, not lost, and nothing is left open
    assert core.job(job_id).state == "CANCELLED"
    assert core.sql("SELECT state FROM hodei.executions") == [{"state": "cancelled"}]
    assert saga_states(core, job_id) == {
        "PROVISIONING": "COMPLETED", "EXECUTION": "CANCELLED", "CANCELLATION": "COMPLETED",
    }  # fmt: skip
