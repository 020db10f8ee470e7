"""Workers as people manage them: made by hand, idle, drained, stopped."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from support.core import Core, failure, refused, result
from support.waiting import until

from hodei.errors import Conflict, InvalidInput, NotFound
from hodei.providers.contract import ProviderError, WorkerRequest
from hodei.services import agents, cleanup, provider_admin, repair, worker_admin
from hodei.services.idempotency import RequestKey
from hodei.services.worker_admin import NewWorker


def start(core: Core, *, wait_s: float = 0.0, key: RequestKey | None = None, **new: Any) -> dict[str, Any]:
    asked = NewWorker(worker_type=new.pop("worker_type", "rust"), **new)
    return worker_admin.start_worker(core.platform, asked, actor="test", wait_s=wait_s, key=key)


def started(core: Core, **new: Any) -> UUID:
    """A worker that was made by hand and is connected."""
    worker_id = UUID(str(start(core, **new)["id"]))
    core.drain()
    core.connect(worker_id)
    core.drain()
    return worker_id


def drain(core: Core, worker_id: UUID) -> dict[str, Any]:
    return worker_admin.drain_worker(core.platform, worker_id, actor="test")


def stop(core: Core, worker_id: UUID) -> dict[str, Any]:
    return worker_admin.stop_worker(core.platform, worker_id, actor="test")


def given_a_job(core: Core, worker_id: UUID) -> UUID:
    """A job that this worker runs."""
    job_id = core.submit("here")
    core.drain()
    assert core.job(job_id).worker_id == worker_id
    agent, given = agents.AgentIdentity(worker_id=worker_id), core.assigned(worker_id)
    execution = UUID(given["execution_id"])
    agents.accept(core.platform, agent, execution, given["fence"])
    agents.started(core.platform, agent, execution, given["fence"], pid=1, at_us=1)
    return job_id


def test_a_worker_by_hand_is_made_and_takes_jobs_one_after_the_other(core: Core) -> None:
    # given
    provider_id = core.provider("here", max_workers=1)

    # when
    first = start(core)

    # then it can be looked at before anything of it exists
    worker_id = UUID(str(first["id"]))
    assert (first["type"], first["status"], first["started_at"]) == ("rust", "starting", None)
    assert worker_admin.look_at(core.platform, worker_id) == first

    # when
    core.drain()
    core.connect(worker_id)
    core.drain()

    # then
    worker = worker_admin.look_at(core.platform, worker_id)
    assert (worker["status"], worker["type"], worker["provider_id"]) == ("running", "rust", provider_id)
    assert worker["started_at"] is not None
    for _ in range(2):
        job_id = core.submit("here")
        core.drain()
        core.perform(worker_id)
        core.drain()
        assert (core.job(job_id).state, core.job(job_id).worker_id) == ("SUCCEEDED", worker_id)
    assert core.worker(worker_id).state == "READY"
    saga = core.sql("SELECT state, correlation_id FROM sagas WHERE saga_type = 'PROVISIONING'")
    assert [(row.state, row.correlation_id) for row in saga] == [("COMPLETED", worker_id)]


class Ear(contextlib.AbstractContextManager["Ear"]):
    """Hears any wake-up."""

    def __init__(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        self.woken: list[str] = []
        self._event = threading.Event()
        monkeypatch.setattr(core.wakeups, "listen", lambda key: self)
        monkeypatch.setattr(core.wakeups, "wake", self._wake)

    def _wake(self, key: str) -> None:
        self.woken.append(key)
        self._event.set()

    def wait(self, timeout_s: float) -> bool:
        heard = self._event.wait(timeout_s)
        self._event.clear()
        return heard

    def __exit__(self, *details: object) -> None:
        pass


def test_who_waits_for_it_is_answered_when_it_is_connected(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    ear = Ear(core, monkeypatch)
    core.provider("here")
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(start(core, wait_s=20.0)))
    asking.start()
    until(lambda: core.courier.kept, what="the saga's first message")

    # when
    core.drain()
    [row] = core.sql("SELECT id FROM workers")
    assert answers == []
    core.connect(row.id)
    asking.join(20)

    # then
    assert (answers[0]["id"], answers[0]["status"]) == (row.id, "running")
    assert f"worker:{row.id}" in ear.woken


def test_the_default_provider_is_what_auto_would_choose(core: Core) -> None:
    core.provider("low", priority=1)
    core.provider("full", priority=5, max_workers=0)
    core.provider("sick", priority=9, status="UNHEALTHY")
    wanted = core.provider("high", priority=4)

    assert start(core)["provider_id"] == wanted
    assert start(core, provider="low")["provider_id"] != wanted


def test_where_there_are_only_processes_they_are_the_default(core: Core) -> None:
    process = core.provider("process", kind="process")

    assert start(core)["provider_id"] == process


def test_room_is_promised_once(core: Core) -> None:
    core.provider("here", max_workers=2)

    for _ in range(2):
        start(core)
    error = refused(lambda: start(core))

    assert isinstance(error, Conflict)
    assert "here has no room" in error.message
    core.drain()
    assert core.sql("SELECT count(*) AS n FROM workers")[0].n == 2


@pytest.mark.parametrize("status", ["DISABLED", "MAINTENANCE", "UNHEALTHY"])
def test_without_a_provider_that_takes_work_it_is_said_why(core: Core, status: str) -> None:
    core.provider("here", status=status)

    error = refused(lambda: start(core))

    assert isinstance(error, Conflict)
    assert f"here is {status}" in error.message
    assert core.sql("SELECT 1 FROM sagas") == []


def test_what_cannot_be_meant_is_refused(core: Core) -> None:
    core.provider("here")
    core.sql("UPDATE provider_configs SET capabilities = CAST('{\"images\": false}' AS jsonb)")

    assert isinstance(refused(lambda: start(core, provider="none")), InvalidInput)
    assert isinstance(refused(lambda: start(core, provider="here", image="a:1")), InvalidInput)


def test_no_worker_is_made_where_none_are_to_be_made(database_url: str, tmp_path: Path) -> None:
    core = Core(database_url, tmp_path, provisioning_enabled=False)
    core.provider("here")

    assert isinstance(refused(lambda: start(core)), Conflict)
    core.close()


def test_one_that_cannot_be_made_is_answered_with_the_cause(core: Core) -> None:
    # given
    provider_id = core.provider("here")

    def broken(request: WorkerRequest) -> None:
        raise ProviderError(failure("ERR_3001"))

    core.places.get(provider_id).on_start = broken
    worker_id = UUID(str(start(core)["id"]))
    core.drain()

    # when
    error = refused(lambda: worker_admin._connected(core.platform, worker_id, 5.0))

    # then
    assert isinstance(error, Conflict)
    assert "ERR_3001: It failed with ERR_3001." in error.message
    assert core.worker(worker_id).state == "TERMINATED"
    assert core.places_taken(provider_id) == 0


def test_the_same_request_makes_one_worker_and_waits_for_that_one(core: Core) -> None:
    core.provider("here")
    key = RequestKey.of("POST /workers", "k", b"body")

    first = start(core, key=key)
    core.drain()
    core.connect(UUID(str(first["id"])))
    second, third = start(core, key=key), start(core, key=key)

    assert str(first["id"]) == str(second["id"]) == third["id"]
    assert second["status"] == third["status"] == "running"
    assert core.sql("SELECT count(*) AS n FROM workers")[0].n == 1


def test_after_its_idle_limit_it_is_ended_and_its_place_is_free(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    worker_id = started(core, idle_s=60.0)
    assert worker_admin.end_idle(core.platform) == 0

    # when a job ends that began long before
    job_id = given_a_job(core, worker_id)
    core.sql("UPDATE workers SET updated_at = updated_at - interval '61 s'")
    assert worker_admin.end_idle(core.platform) == 0
    finish(core, worker_id)

    # then its time counts from then on
    assert core.job(job_id).state == "SUCCEEDED"
    assert worker_admin.end_idle(core.platform) == 0
    core.sql("UPDATE workers SET updated_at = updated_at - interval '61 s'")
    assert worker_admin.end_idle(core.platform) == 1
    core.drain()
    worker = core.worker(worker_id)
    assert (worker.state, worker.termination_reason) == ("TERMINATED", "it had no job for 60 s")
    assert core.places_taken(provider_id) == 0


def finish(core: Core, worker_id: UUID, **more: Any) -> None:
    """Its agent reports its job."""
    [row] = core.sql(
        "SELECT id, attempt FROM hodei.executions WHERE worker_id = :id AND reported_at IS NULL", id=worker_id
    )
    report = result(0) | {"fence": row.attempt} | more
    agents.report_result(
        core.platform, agents.AgentIdentity(worker_id=worker_id), row.id, row.attempt, report
    )
    core.drain()


def test_a_worker_that_was_made_for_a_job_has_no_idle_limit(core: Core) -> None:
    core.provider("here")
    _, worker_id = core.to_running_worker("here")
    core.sql("UPDATE workers SET updated_at = updated_at - interval '1 d'")

    assert worker_admin.end_idle(core.platform) == 0
    assert core.worker(worker_id).state == "BUSY"


def test_a_drained_worker_finishes_its_job_and_gets_no_other(core: Core) -> None:
    # given
    core.provider("here", max_workers=1)
    worker_id = started(core)
    job_id = given_a_job(core, worker_id)

    # when
    worker = drain(core, worker_id)
    waiting = core.submit("here")
    core.drain()

    # then
    assert (worker["state"], worker["status"]) == ("DRAINING", "running")
    assert (core.job(job_id).state, core.job(waiting).state) == ("RUNNING", "PENDING")
    assert drain(core, worker_id)["state"] == "DRAINING"

    # when
    finish(core, worker_id)

    # then
    assert core.job(job_id).state == "SUCCEEDED"
    assert core.worker(worker_id).state == "TERMINATED"
    assert core.job(waiting).worker_id != worker_id
    assert core.events(worker_id).count("WorkerDrainRequested") == 1


def test_an_idle_worker_that_is_drained_leaves_at_once(core: Core) -> None:
    core.provider("here")
    worker_id = started(core)

    drain(core, worker_id)
    core.drain()

    assert core.worker(worker_id).state == "TERMINATED"
    assert drain(core, worker_id)["state"] == "TERMINATED"


def test_one_that_is_about_to_get_a_job_does_that_one_first(core: Core) -> None:
    # given a free worker that a job was promised to
    core.provider("here")
    worker_id = started(core)
    job_id = core.submit("here")
    core.deliver(("look",))
    assert core.worker(worker_id).reserved_for == job_id

    # when
    drain(core, worker_id)
    core.drain()

    # then
    core.perform(worker_id)
    core.drain()
    assert (core.job(job_id).state, core.job(job_id).attempts) == ("SUCCEEDED", 1)
    assert core.worker(worker_id).state == "TERMINATED"


@pytest.mark.parametrize("end", [drain, stop])
def test_one_that_is_not_connected_yet_is_ended_and_its_saga_with_it(core: Core, end: Any) -> None:
    # given
    provider_id = core.provider("here")
    worker_id = UUID(str(start(core)["id"]))

    # then before its row is there
    assert isinstance(refused(lambda: end(core, worker_id)), Conflict)

    # when it is being made
    core.drain()
    end(core, worker_id)
    core.drain()

    # then
    assert core.worker(worker_id).state == "TERMINATED"
    [saga] = core.sql("SELECT state FROM sagas")
    assert saga.state == "FAILED"
    assert (core.places_taken(provider_id), core.places.get(provider_id).made) == (0, {})


def test_one_that_was_made_for_a_job_can_be_stopped_and_the_job_gets_another(core: Core) -> None:
    # given
    core.provider("here")
    job_id = core.submit("here")
    core.drain()
    worker_id = core.job(job_id).worker_id

    # when all messages get lost
    stop(core, worker_id)
    core.courier.kept.clear()
    core.make_due()
    core.sql("UPDATE sagas SET nudge_after = clock_timestamp() WHERE completed_at IS NULL")
    for _ in range(3):
        repair.nudge_sagas(core.platform)
        core.drain()

    # then
    job = core.job(job_id)
    assert (job.state, job.infra_retries, job.error_code) == ("PENDING", 1, "ERR_3007")
    assert core.worker(worker_id).state == "TERMINATED"
    core.make_due()
    core.courier.look()
    core.drain()
    assert core.job(job_id).worker_id not in (None, worker_id)


def test_a_stopped_worker_ends_its_job_which_is_tried_again_elsewhere(core: Core) -> None:
    # given
    core.provider("here")
    worker_id = started(core)
    job_id = given_a_job(core, worker_id)

    # when
    worker = stop(core, worker_id)

    # then its agent is told, with the job's grace
    assert worker["state"] == "DRAINING"
    [message] = core.sql("SELECT kind, payload FROM hodei.worker_messages WHERE kind <> 'run'")
    assert (message.kind, message.payload) == ("shutdown", {"grace_s": 10.0})

    # when it does so
    stopped = {
        "outcome": "worker_stopped",
        "exit_code": None,
        "error_code": "ERR_1008",
        "error_message": "Stopped.",
    }
    finish(core, worker_id, **stopped)

    # then
    job = core.job(job_id)
    assert (job.state, job.infra_retries, job.error_code) == ("PENDING", 1, "ERR_1008")
    assert core.worker(worker_id).state == "TERMINATED"
    assert "JobRetried" in core.events(job_id)


def test_an_agent_that_does_not_stop_is_ended_by_its_provider(core: Core) -> None:
    # given
    core.provider("here")
    worker_id = started(core)
    job_id = given_a_job(core, worker_id)
    stop(core, worker_id)
    assert worker_admin.end_idle(core.platform) == 0

    # when its time is over
    core.sql("UPDATE workers SET destroy_after = destroy_after - interval '26 s'")
    assert worker_admin.end_idle(core.platform) == 1
    core.drain()
    assert core.worker(worker_id).state == "TERMINATED"
    cleanup.sweep(core.platform)
    core.drain()

    # then the job is not lost
    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_2006")


def test_a_drained_worker_may_take_as_long_as_its_job_does(core: Core) -> None:
    core.provider("here")
    worker_id = started(core)
    given_a_job(core, worker_id)
    drain(core, worker_id)
    core.sql("UPDATE workers SET updated_at = updated_at - interval '1 d'")

    assert worker_admin.end_idle(core.platform) == 0


def test_stopping_twice_is_stopping_once(core: Core) -> None:
    core.provider("here")
    worker_id = started(core)

    stop(core, worker_id)
    stop(core, worker_id)
    core.drain()

    assert stop(core, worker_id)["state"] == "TERMINATED"
    assert core.events(worker_id).count("WorkerStopRequested") == 1


def test_workers_of_a_provider_that_is_switched_off_get_no_jobs_and_can_be_ended(core: Core) -> None:
    core.provider("here")
    worker_id = started(core)
    provider_admin.set_status(core.platform, "here", provider_admin.ProviderStatus.DISABLED, actor="test")

    waiting = core.submit("here")
    core.drain()

    assert core.job(waiting).state == "PENDING"
    stop(core, worker_id)
    core.drain()
    assert core.worker(worker_id).state == "TERMINATED"


@pytest.mark.parametrize("call", [drain, stop, lambda core, one: worker_admin.look_at(core.platform, one)])
def test_an_unknown_one_is_not_found(core: Core, call: Any) -> None:
    core.provider("here")
    job_id, _ = core.to_running_worker("here")

    for unknown in (UUID(int=1), job_id):
        assert isinstance(refused(lambda one=unknown: call(core, one)), NotFound)
