"""Self-hosted workers: entered, connected, away and back, lost with their host, drained; and which jobs they get."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from support import core_cancel
from support.core import Core, open_the_door, refused, result

from hodei.domain.ids import SELF_HOSTED_PROVIDER_ID
from hodei.errors import Conflict, InvalidInput, Unauthorized
from hodei.services import (
    agents,
    cancel,
    deadlines,
    dispatch,
    provider_admin,
    repair,
    self_hosted,
    why,
    worker_admin,
)
from hodei.services.agents.sessions import sessions
from hodei.services.idempotency import RequestKey

LONG_AGO = "clock_timestamp() - interval '1 h'"


class Machine:
    """A machine with the agent of one self-hosted worker on it."""

    def __init__(self, core: Core, worker_type: str = "rust") -> None:
        self.core = core
        entered = self_hosted.enter_worker(core.platform, worker_type, actor="test")
        self.id = UUID(str(entered["id"]))
        self.token = entered["token"]
        self.session = uuid4().hex + "-session-token"
        self.agent = agents.AgentIdentity(worker_id=self.id)

    def start(self) -> Machine:
        """The agent's process is started: it registers, polls its inbox, and the platform does what follows."""
        registration = {
            "protocol": 1,
            "session_token": self.session,
            "agent_version": "test",
            "hostname": "box",
            "pid": 7,
            "instance": uuid4().hex,
        }
        agents.register(self.core.platform, self.id, self.token, registration)
        agents.poll_inbox(self.core.platform, self.agent, 0, 0)
        self.core.drain()
        return self

    @property
    def state(self) -> str:
        return self.core.worker(self.id).state

    def begin(self) -> tuple[UUID, int]:
        """Take the job in the inbox and start it: its execution and fence."""
        given = self.core.assigned(self.id)
        execution, fence = UUID(given["execution_id"]), given["fence"]
        agents.accept(self.core.platform, self.agent, execution, fence)
        agents.started(self.core.platform, self.agent, execution, fence, pid=1, at_us=1)
        return execution, fence

    def is_known(self) -> bool:
        sessions._seen.clear()
        return not isinstance(
            refused(lambda: agents.authenticate(self.core.platform, self.session)), Unauthorized
        )


def submit(core: Core, worker_type: str = "rust", **more: Any) -> UUID:
    job_id = core.submit(required_labels={"type": worker_type}, **more)
    core.drain()
    return job_id


def let_time_pass(core: Core, worker_id: UUID) -> None:
    core.sql(f"UPDATE workers SET last_heartbeat = {LONG_AGO} WHERE id = :id", id=worker_id)


def settle(core: Core) -> None:
    """Everything that is due, until nothing changes."""
    for _ in range(6):
        core.sql(
            "UPDATE sagas SET waiting_until = clock_timestamp() WHERE waiting_until < 'infinity' AND completed_at IS NULL"
        )
        core.make_due()
        repair.nudge_sagas(core.platform)
        dispatch.look(core.platform)
        core.drain()


def test_a_worker_that_is_entered_takes_the_jobs_of_its_type_one_after_the_other(core: Core) -> None:
    machine = Machine(core)
    first, second = submit(core), submit(core)
    assert core.job(first).state == "PENDING"

    machine.start()
    assert core.worker(machine.id).provider_resource_id == "box"

    for job_id in (first, second):
        assert core.job(job_id).worker_id == machine.id
        core.perform(machine.id)
        core.drain()
        assert core.job(job_id).state == "SUCCEEDED"
        assert core.job(job_id).selected_provider_id == SELF_HOSTED_PROVIDER_ID
    assert machine.state == "READY"


def test_a_job_that_does_not_ask_for_its_type_never_gets_there(core: Core) -> None:
    machine = Machine(core).start()
    jobs = [
        core.submit(),
        submit(core, "java"),
        submit(core, image="python:3.12"),
        submit(core, memory_bytes=2**30),
    ]
    core.drain()

    assert {core.job(job_id).state for job_id in jobs} == {"PENDING"}
    assert machine.state == "READY"


def test_a_job_that_names_them_without_a_type_takes_any(core: Core) -> None:
    machine = Machine(core).start()

    job_id = core.submit("self-hosted")
    core.drain()

    assert core.job(job_id).worker_id == machine.id


def test_a_job_that_names_them_where_there_are_none_is_refused(core: Core) -> None:
    with pytest.raises(InvalidInput, match="hodei worker register"):
        core.submit("self-hosted")


def test_why_says_what_is_missing(core: Core) -> None:
    def words(job_id: UUID) -> str:
        return why.explain(core.platform, job_id)["summary"]

    job_id = submit(core)
    assert "none is registered" in words(job_id)
    machine = Machine(core)
    assert "none of them connected" in words(job_id)
    machine.start()
    waiting = submit(core)
    assert "to be free: 1 connected" in words(waiting)
    assert "an image or limits" in words(submit(core, image="rust:1"))
    provider_admin.set_status(
        core.platform, "self-hosted", provider_admin.ProviderStatus.MAINTENANCE, actor="t", reason="new disks"
    )
    assert "MAINTENANCE: new disks" in words(waiting)


def test_its_token_is_used_once_and_for_it_alone(core: Core) -> None:
    machine, other = Machine(core).start(), Machine(core)
    registration = {"protocol": 1, "session_token": "another session", "agent_version": "t"}

    for worker, token in ((machine.id, machine.token), (machine.id, other.token), (other.id, "hsw_no")):
        with pytest.raises(Unauthorized):
            agents.register(core.platform, worker, token, registration)


def test_a_token_that_is_not_used_in_time_ends_its_worker(core: Core) -> None:
    machine = Machine(core)
    core.sql(f"UPDATE workers SET connect_deadline = {LONG_AGO}")
    core.sql(f"UPDATE hodei.worker_tokens SET expires_at = {LONG_AGO}")

    self_hosted.note_absent(core.platform)
    core.drain()

    assert machine.state == "TERMINATED"
    assert core.places_taken(SELF_HOSTED_PROVIDER_ID) == 0
    with pytest.raises(Unauthorized):
        machine.start()


def test_the_token_is_shown_once(core: Core) -> None:
    key = RequestKey.of("POST /workers", "again", b"{}")

    first = self_hosted.enter_worker(core.platform, "rust", actor="t", key=key)
    again = self_hosted.enter_worker(core.platform, "rust", actor="t", key=key)

    assert again["id"] == str(first["id"]) and first["token"] and again["token"] is None
    kept = core.sql("SELECT CAST(answer AS text) AS answer FROM hodei.idempotency_keys")[0].answer
    assert first["token"] not in kept


def test_an_agent_that_is_started_again_goes_on_and_its_interrupted_job_is_tried_again(core: Core) -> None:
    open_the_door(core)
    machine = Machine(core).start()
    job_id = submit(core)
    execution, fence = machine.begin()

    machine.start()  # another process, with what the first one kept
    settle(core)

    lost = core.sql("SELECT state, error_code FROM hodei.executions WHERE id = :id", id=execution)[0]
    assert (lost.state, lost.error_code) == ("lost", "ERR_2003")
    job = core.job(job_id)
    assert (job.state, job.attempts, job.worker_id) == ("ASSIGNED", 2, machine.id)
    late = refused(lambda: agents.report_result(core.platform, machine.agent, execution, fence, result(0)))
    assert late is not None and late.code == "stale_attempt"
    core.perform_attempt(machine.id, 2)
    settle(core)
    assert core.job(job_id).state == "SUCCEEDED"
    assert [saga.state for saga in core.sagas(job_id, "RECOVERY")] == ["COMPLETED"]
    assert "WorkerReturned" in core.events(machine.id)


@pytest.mark.parametrize("ended_first", [True, False], ids=["worker ended first", "agent back first"])
def test_a_job_out_of_its_time_whose_agent_is_started_again_is_not_run_again(
    core: Core, ended_first: bool
) -> None:
    # given a job that ran out of its time while its agent was silent
    open_the_door(core)
    machine = Machine(core).start()
    job_id = submit(core, timeout_s=30.0, grace_s=5.0)
    machine.begin()
    core.sql("UPDATE hodei.executions SET started_at = started_at - interval '60 s'")
    core.sql("UPDATE workers SET last_heartbeat = clock_timestamp() - interval '60 s'")
    assert deadlines.start_timeouts(core.platform) == 1
    if ended_first:
        core.drain()
        assert machine.state == "CONNECTING"

    # when the agent is started again, which has ended what it had
    machine.start()
    core_cancel.settle(core)

    # then
    job = core.job(job_id)
    assert (job.state, job.error_code, job.attempts) == ("TIMEOUT", "ERR_1005", 1)
    assert machine.state == "READY" and machine.is_known()
    assert core.job(submit(core)).worker_id == machine.id


def test_a_silent_worker_without_a_job_is_away_and_comes_back(core: Core) -> None:
    open_the_door(core)
    machine = Machine(core).start()
    let_time_pass(core, machine.id)

    self_hosted.note_absent(core.platform)

    assert machine.state == "CONNECTING" and not machine.is_known()
    job_id = submit(core)
    assert core.job(job_id).state == "PENDING"
    machine.start()
    assert machine.is_known()
    assert core.job(job_id).worker_id == machine.id


def test_a_job_whose_host_is_gone_is_tried_again_elsewhere_when_its_lease_is_over(core: Core) -> None:
    open_the_door(core)
    machine, other = Machine(core).start(), Machine(core)
    job_id = submit(core)
    machine.begin()
    let_time_pass(core, machine.id)

    repair.watch_workers(core.platform)
    settle(core)
    assert machine.state == "CONNECTING" and not machine.is_known()
    other.start()
    settle(core)

    job = core.job(job_id)
    assert (job.attempts, job.worker_id) == (2, other.id)
    recovery = core.sagas(job_id, "RECOVERY")[0]
    confirmed = core.sql(
        "SELECT output_data ->> 'confirmed_by' AS by FROM saga_steps WHERE saga_id = :id AND step_name = 'TerminateOldWorker'",
        id=recovery.id,
    )
    assert confirmed[0].by == "lease"


def test_a_worker_whose_agent_is_refused_gets_no_second_attempt_before_it_registers_again(core: Core) -> None:
    open_the_door(core)
    machine = Machine(core).start()
    job_id = submit(core)
    machine.begin()
    let_time_pass(core, machine.id)
    repair.watch_workers(core.platform)
    core.drain()
    # its agent is heard of again, and may still have the child
    core.sql("UPDATE workers SET last_heartbeat = clock_timestamp() WHERE id = :id", id=machine.id)
    settle(core)
    assert core.job(job_id).attempts == 1

    machine.start()
    settle(core)

    assert (core.job(job_id).attempts, core.job(job_id).worker_id) == (2, machine.id)


def test_an_agent_that_leaves_after_its_job_is_away_not_ended(core: Core) -> None:
    machine = Machine(core).start()
    agents.goodbye(core.platform, machine.agent, "sigterm")
    core.drain()

    assert machine.state == "CONNECTING" and not machine.is_known()
    assert core.places_taken(SELF_HOSTED_PROVIDER_ID) == 1


def test_an_agent_that_reports_and_leaves_before_the_job_is_completed_is_away(core: Core) -> None:
    machine = Machine(core).start()
    job_id = submit(core)
    execution, fence = machine.begin()
    agents.report_result(core.platform, machine.agent, execution, fence, result(0))
    agents.goodbye(core.platform, machine.agent, "sigterm")

    core.drain()

    assert core.job(job_id).state == "SUCCEEDED"
    assert machine.state == "CONNECTING"


def test_a_drained_worker_does_its_job_is_told_to_leave_and_is_gone_when_it_has(core: Core) -> None:
    machine = Machine(core).start()
    job_id = submit(core)
    machine.begin()

    worker_admin.drain_worker(core.platform, machine.id, actor="t")
    assert machine.state == "DRAINING"
    execution = core.sql("SELECT id FROM hodei.executions WHERE job_id = :id", id=job_id)[0].id
    agents.report_result(core.platform, machine.agent, execution, 1, result(0))
    core.drain()
    assert machine.state == "TERMINATING"  # nobody but its agent can end it
    kinds = [message["kind"] for message in agents.poll_inbox(core.platform, machine.agent, 0, 0)]
    assert kinds[-1] == "shutdown"
    agents.goodbye(core.platform, machine.agent, "done")
    core.drain()

    assert machine.state == "TERMINATED"
    assert core.places_taken(SELF_HOSTED_PROVIDER_ID) == 0
    with pytest.raises(Unauthorized):
        machine.start()


def test_a_drained_worker_whose_host_is_gone_ends_with_its_lease(core: Core) -> None:
    machine = Machine(core).start()
    worker_admin.drain_worker(core.platform, machine.id, actor="t")
    core.drain()
    assert machine.state == "TERMINATING"

    let_time_pass(core, machine.id)
    core.sql("UPDATE workers SET destroy_after = clock_timestamp()")
    repair.destroy_workers(core.platform)

    assert machine.state == "TERMINATED"


def test_a_cancel_of_a_job_that_was_not_accepted_leaves_the_worker_in_its_place(core: Core) -> None:
    open_the_door(core)
    machine = Machine(core).start()
    job_id = submit(core)
    cancel.cancel_job(core.platform, job_id, actor="t")
    settle(core)

    assert core.job(job_id).state == "CANCELLED"
    assert machine.state == "READY" and machine.is_known()


def test_a_worker_keeps_its_next_job_when_the_saga_of_a_revoked_one_comes_late(core: Core) -> None:
    open_the_door(core)
    machine = Machine(core).start()
    first = submit(core)
    cancel.cancel_job(core.platform, first, actor="t")
    for step in ("ValidateCancellation", "NotifyWorker", "UpdateJobState"):
        core.engine.run_step(core.sagas(first, "CANCELLATION")[0].id, step)
    core.courier.kept.clear()
    second = submit(core)
    machine.begin()

    core_cancel.settle(core)

    assert (core.job(second).state, machine.state) == ("RUNNING", "BUSY")
    assert machine.is_known()


def test_a_worker_that_is_not_self_hosted_cannot_be_made_there(core: Core) -> None:
    Machine(core)

    error = refused(
        lambda: worker_admin.start_worker(
            core.platform,
            worker_admin.NewWorker(worker_type="x", provider="self-hosted"),
            actor="t",
            wait_s=0,
        )
    )

    assert isinstance(error, InvalidInput)


def test_no_worker_is_entered_while_their_provider_is_off_or_full(core: Core) -> None:
    Machine(core)
    provider_admin.set_status(core.platform, "self-hosted", provider_admin.ProviderStatus.DISABLED, actor="t")

    with pytest.raises(Conflict, match="DISABLED"):
        Machine(core)


def test_a_platform_that_stops_ends_no_self_hosted_worker(core: Core) -> None:
    from hodei.services import workers

    machine = Machine(core).start()

    workers.stop_all(core.platform, reason="it stops")

    assert machine.state == "READY"
