"""Making a worker: what goes wrong on the way, and what that costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from support.core import Core, failure, open_the_door
from support.core_cancel import AgentOf

from hodei.providers.contract import ImageMissing, ProviderError
from hodei.services import dispatch, repair


@pytest.mark.parametrize("code", ["ERR_3001", "ERR_5005"])
def test_a_provisioning_that_fails_is_tried_again_with_another_worker(core: Core, code: str) -> None:
    # given a cause of the user's, paid by --retries, or the infrastructure's own
    provider_id = core.provider("here")
    tries = iter([code])

    def fail_once(_: object) -> None:
        for found in tries:
            raise ProviderError(failure(found))

    core.places.get(provider_id).on_start = fail_once

    # when
    job_id = core.submit("here", retries=1)
    core.drain()
    assert core.job(job_id).state == "PENDING"
    core.make_due()
    core.courier.look()
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    core.drain()
    core.perform(worker_id)
    core.drain()

    # then
    assert core.job(job_id).state == "SUCCEEDED"
    assert [row.state for row in core.sagas(job_id, "PROVISIONING")] == ["FAILED", "COMPLETED"]
    assert core.places_taken(provider_id) == 0


def test_a_pull_that_is_quicker_than_its_step_still_wakes_it(core: Core) -> None:
    # given an image that is missing until it is pulled, by whoever gets the message at once
    provider_id = core.provider("here")
    place = core.places.get(provider_id)

    def need(request: object) -> None:
        if not place.prepared:
            raise ImageMissing(failure("ERR_3001"), image="x")

    place.on_start = need
    core.courier.pull = core.pull  # type: ignore[method-assign]

    # when
    job_id = core.submit("here", image="x")
    core.drain()

    # then
    assert place.starts == [core.job(job_id).worker_id]


def test_a_pull_whose_message_is_lost_is_asked_for_again(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    place = core.places.get(provider_id)

    def need(request: object) -> None:
        if not place.prepared:
            raise ImageMissing(failure("ERR_3001"), image="x")

    place.on_start = need
    core.submit("here", image="x")
    while (message := core.courier.take()) is not None:
        if message[0] != "pull":
            core.deliver(message)

    # when half a minute has passed
    core.sql(
        "UPDATE sagas SET waiting_until = waiting_until - interval '30 s', nudge_after = nudge_after - interval '30 s'"
    )
    repair.nudge_sagas(core.platform)
    core.drain()

    # then
    assert place.prepared == ["x"]
    assert len(place.starts) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("status = 'UNHEALTHY', status_reason = 'It restarts.'", "ERR_4004"),
        ("places_taken = max_workers", "ERR_4003"),
    ],
)
def test_a_place_that_is_not_there_after_all_costs_no_budget_and_no_place_in_the_queue(
    core: Core, change: str, code: str
) -> None:
    # given a provider that has no place each time when one is to be taken, more often than any budget lasts
    provider_id = core.provider("here")
    before = core.sql("SELECT status, places_taken FROM provider_configs WHERE id = :id", id=provider_id)[0]
    job_id = core.submit("here", retries=1)
    queued_at = core.job(job_id).queued_at
    for _ in range(5):
        core.courier.kept.clear()
        dispatch.look(core.platform)
        assert core.job(job_id).state == "SCHEDULED"
        core.sql(f"UPDATE provider_configs SET {change} WHERE id = :id", id=provider_id)
        core.drain()
        core.sql(
            "UPDATE provider_configs SET status = :status, places_taken = :places_taken WHERE id = :id",
            id=provider_id,
            **before,
        )
        core.make_due()

    # then it has its budgets still, and its time in the queue goes on
    job = core.job(job_id)
    assert (job.state, job.attempts, job.infra_retries, job.user_retries) == ("PENDING", 0, 0, 1)
    assert job.queued_at == queued_at
    paid = core.sql(
        "SELECT payload FROM domain_events WHERE aggregate_id = :id AND event_type = 'JobRetried'", id=job_id
    )
    assert [(row.payload["error_code"], row.payload["paid_by"]) for row in paid] == [(code, "nobody")] * 5

    # and runs when there is a place
    core.courier.look()
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    core.drain()
    core.perform(worker_id)
    core.drain()
    assert core.job(job_id).state == "SUCCEEDED"
    assert core.places_taken(provider_id) == 0


def test_what_no_provider_should_raise_ends_the_worker_when_its_time_is_over(core: Core) -> None:
    # given a provider with a fault of its own
    provider_id = core.provider("here")
    place = core.places.get(provider_id)

    def fault(_: object) -> None:
        raise KeyError("nodes")

    place.on_start = fault
    job_id = core.submit("here")
    [looking] = core.courier.kept
    core.courier.kept.clear()
    core.deliver(looking)

    # when it is asked within its time
    with pytest.raises(KeyError):
        core.drain()

    # then it is asked again
    assert core.job(job_id).state == "SCHEDULED"

    # when its time is over
    core.sql(
        "UPDATE sagas SET lease_expires = clock_timestamp(), nudge_after = clock_timestamp(),"
        " metadata = metadata || jsonb_build_object('deadline', clock_timestamp() - interval '1 s')"
    )
    with structlog.testing.capture_logs() as said:
        repair.nudge_sagas(core.platform)
        core.drain()

    # then the attempt has an end and a cause, and the log the fault
    job = core.job(job_id)
    assert (job.state, job.error_code) == ("PENDING", "ERR_3007")
    assert "KeyError: 'nodes'" in job.error_message
    assert [line["event"] for line in said if line["log_level"] == "error"] == ["worker.not_made"]
    assert core.places_taken(provider_id) == 0


def test_a_worker_that_connects_before_its_making_is_undone_keeps_the_job_that_it_got(core: Core) -> None:
    # given a worker that is late, and whose undoing waits for a controller
    provider_id = core.provider("here")
    open_the_door(core)
    job_id = core.submit("here")
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.sql("UPDATE sagas SET metadata = metadata || jsonb_build_object('deadline', clock_timestamp())")
    [provisioning] = core.sagas(job_id, "PROVISIONING")
    core.engine.run_step(provisioning.id, "PublishProvisionedEvent")
    undoing = list(core.courier.kept)
    core.courier.kept.clear()
    assert core.saga(provisioning.id).state == "COMPENSATING"

    # when it connects and gets its job
    core.connect(worker_id)
    core.drain()
    agent = AgentOf(core, worker_id)
    agent.accept()
    agent.started()
    core.courier.kept.extend(undoing)
    core.drain()

    # then
    assert core.saga(provisioning.id).state == "FAILED"
    assert (core.job(job_id).state, core.worker(worker_id).state) == ("RUNNING", "BUSY")
    assert list(core.places.get(provider_id).made) == [worker_id]
    agent.report(0)
    core.drain()
    assert core.job(job_id).state == "SUCCEEDED"
    assert core.worker(worker_id).state == "TERMINATED" and core.places_taken(provider_id) == 0


def test_a_one_time_token_outlives_the_pull_of_its_workers_image(database_url: str, tmp_path: Path) -> None:
    # given tokens that live for a second, and a pull that takes almost all of the ten minutes of provisioning
    core = Core(database_url, tmp_path, otp_ttl=1.0)
    provider_id = core.provider("here")
    place = core.places.get(provider_id)

    def need(_: object) -> None:
        if not place.prepared:
            raise ImageMissing(failure("ERR_3001"), image="x")

    place.on_start = need
    job_id = core.submit("here", image="x")
    dispatch.look(core.platform)
    while (message := core.courier.take()) is not None and message[0] != "pull":
        core.deliver(message)
    assert message is not None
    core.sql("UPDATE hodei.worker_tokens SET expires_at = expires_at - interval '590 s'")

    # when
    core.deliver(message)
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    core.drain()
    core.perform(worker_id)
    core.drain()

    # then
    assert core.job(job_id).state == "SUCCEEDED"
    core.close()
