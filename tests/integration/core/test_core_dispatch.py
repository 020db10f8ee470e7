"""Dispatch: who gets which place, and that places come back."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from support.core import Core, failure, open_the_door
from support.core_processes import dispatch_and_run

from hodei.domain.job import Timeouts
from hodei.providers.contract import ProviderError
from hodei.services import dispatch, repair


def scheduled(core: Core) -> list[UUID]:
    rows = core.sql("SELECT id FROM jobs WHERE state = 'SCHEDULED' ORDER BY state_since")
    return [row.id for row in rows]


def test_jobs_go_by_priority_and_then_by_age(core: Core) -> None:
    # given
    core.provider("here", max_workers=3)
    old, urgent, younger, late = (core.submit("here", priority=n) for n in (1, 9, 1, 0))

    # when
    dispatch.look(core.platform)

    # then
    assert scheduled(core) == [urgent, old, younger]
    assert core.job(late).state == "PENDING"


@pytest.mark.parametrize("status", ["UNHEALTHY", "MAINTENANCE", "DISABLED", "OVERLOADED"])
def test_a_job_waits_for_the_provider_it_names_while_another_has_room(core: Core, status: str) -> None:
    # given
    core.provider("other")
    core.provider("named", status=status)
    job_id = core.submit("named")

    # when
    dispatch.look(core.platform)

    # then
    assert core.job(job_id).state == "PENDING"

    # when it comes back
    core.sql("UPDATE provider_configs SET status = 'ACTIVE' WHERE name = 'named'")
    dispatch.look(core.platform)

    # then
    assert core.job(job_id).state == "SCHEDULED"


def test_a_full_provider_is_waited_for(core: Core) -> None:
    # given
    core.provider("other")
    core.provider("named", max_workers=1)
    first, second = core.submit("named"), core.submit("named")

    # when
    core.drain()

    # then
    assert (core.job(first).state, core.job(second).state) == ("SCHEDULED", "PENDING")

    # when the first is done
    worker_id = core.job(first).worker_id
    core.connect(worker_id)
    core.drain()
    core.perform(worker_id)
    core.drain()

    # then
    assert (core.job(first).state, core.job(second).state) == ("SUCCEEDED", "SCHEDULED")


def test_auto_takes_the_highest_priority_with_room_and_then_the_next(core: Core) -> None:
    # given
    low = core.provider("low", priority=1)
    high = core.provider("high", priority=5, max_workers=1)
    core.provider("sick", priority=9, status="UNHEALTHY")
    first, second = core.submit(), core.submit()

    # when
    dispatch.look(core.platform)

    # then
    assert [core.job(job_id).selected_provider_id for job_id in (first, second)] == [high, low]


@pytest.mark.parametrize(
    ("dev_mode", "others", "taken"), [(False, 0, False), (True, 0, True), (True, 1, False)]
)
def test_auto_means_process_only_in_dev_mode_when_it_is_the_only_one(
    database_url: str, tmp_path: Path, dev_mode: bool, others: int, taken: bool
) -> None:
    # given
    core = Core(database_url, tmp_path, dev_mode=dev_mode)
    process = core.provider("process", kind="process", priority=9)
    for n in range(others):
        core.provider(f"other {n}")
    job_id = core.submit()

    # when
    dispatch.look(core.platform)

    # then
    assert (core.job(job_id).selected_provider_id == process) is taken
    core.close()


@pytest.mark.parametrize("switched_off", ["job_controller_enabled", "provisioning_enabled"])
def test_switched_off_jobs_stay_pending(database_url: str, tmp_path: Path, switched_off: str) -> None:
    core = Core(database_url, tmp_path, **{switched_off: False})
    core.provider("here")
    job_id = core.submit("here")

    dispatch.look(core.platform)

    assert core.job(job_id).state == "PENDING"
    core.close()


def test_four_threads_and_two_processes_never_exceed_the_room(core: Core, database_url: str) -> None:
    # given
    room = 5
    provider_id = core.provider("here", max_workers=room)
    job_ids = [core.submit("here") for _ in range(40)]
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=dispatch_and_run, args=(database_url, 2)) for _ in range(2)]
    threads = [threading.Thread(target=core.drain) for _ in range(4)]

    # when all of them dispatch and provision at once
    for process in processes:
        process.start()
    for _ in range(8):
        core.courier.look()
    for thread in threads:
        thread.start()
    for runner in (*threads, *processes):
        runner.join(30)

    # then the room is used and not exceeded, and no job paid for it
    assert all(process.exitcode == 0 for process in processes)
    core.drain()
    live = core.sql("SELECT count(*) AS n FROM workers WHERE state <> 'TERMINATED'")[0].n
    ever = core.sql("SELECT count(*) AS n FROM workers")[0].n
    assert (live, ever, core.places_taken(provider_id)) == (room, room, room)
    assert len(scheduled(core)) == room
    assert all(core.job(job_id).infra_retries == 0 for job_id in job_ids)
    assert core.sql("SELECT id FROM sagas WHERE state IN ('FAILED', 'COMPENSATING')") == []


def test_a_dispatcher_that_waited_for_the_lock_sees_what_its_holder_promised(core: Core) -> None:
    # given one dispatcher that has given away the only place and not yet committed
    provider_id = core.provider("here", max_workers=1)
    first, second = core.submit("here"), core.submit("here")
    waited = threading.Thread(target=dispatch.look, args=(core.platform,))
    with core.database.begin() as tx:
        provider = tx.row("provider_lock", id=provider_id)
        assert provider is not None
        job = tx.rows("job_queue_head", names=["here"], labels={}, lease_s=300.0, limit=1)[0]
        waited.start()
        until_blocked(core)
        dispatch._provision_for(core.platform, tx, job, provider)

    # when the other goes on
    waited.join(10)

    # then
    assert (core.job(first).state, core.job(second).state) == ("SCHEDULED", "PENDING")


def until_blocked(core: Core) -> None:
    from support.waiting import until

    blocked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    until(lambda: core.sql(blocked), what="the other's wait for the lock")


def test_places_come_back_after_success_failure_and_loss(core: Core) -> None:
    # given
    provider_id = core.provider("here", max_workers=2)
    place = core.places.get(provider_id)

    # when one succeeds, one fails
    for exit_code in (0, 3):
        _, worker_id = core.to_running_worker("here")
        assert core.places_taken(provider_id) == 1
        core.perform(worker_id, exit_code=exit_code)
        core.drain()
        assert core.places_taken(provider_id) == 0

    # and one cannot be made, four times
    def broken(_: object) -> None:
        raise ProviderError(failure("ERR_5005"))

    place.on_start = broken
    job_id = core.submit("here")
    for _ in range(6):
        core.drain()
        core.make_due()
        core.courier.look()
    core.drain()
    assert core.job(job_id).state == "FAILED"
    assert core.places_taken(provider_id) == 0
    place.on_start = lambda request: None

    # and one is lost while it runs
    job_id, worker_id = core.to_running_worker("here")
    place.made.pop(worker_id)
    open_the_door(core)
    core.sql(
        "UPDATE workers SET last_heartbeat = clock_timestamp() - interval '1 h' WHERE id = :id", id=worker_id
    )
    assert repair.watch_workers(core.platform) == 1
    core.drain()

    # then
    assert core.job(job_id).state == "PENDING"
    assert core.worker(worker_id).state == "TERMINATED"
    assert core.places_taken(provider_id) == 0
    assert place.made == {}


def test_a_worker_made_for_one_job_is_not_taken_by_another(core: Core) -> None:
    # given a connected worker whose job has not been assigned yet
    core.provider("here", max_workers=1)
    first = core.submit("here")
    core.drain()
    worker_id = core.job(first).worker_id
    core.connect(worker_id)
    urgent = core.submit("here", priority=9)

    # when
    dispatch.look(core.platform)
    core.drain()

    # then
    assert core.job(first).state == "ASSIGNED"
    assert core.worker(worker_id).current_job_id == first
    assert core.job(urgent).state == "PENDING"


def idle_worker(core: Core, provider_id: UUID) -> UUID:
    """A worker of many jobs, connected and free."""
    worker_id = uuid4()
    core.sql(
        "INSERT INTO workers (id, provider_id, provider_type, state, max_jobs, registered_at, inbox_polled_at, last_heartbeat)"
        " VALUES (:id, :provider, 'fake', 'READY', 0, now(), now(), clock_timestamp())",
        id=worker_id, provider=provider_id,
    )  # fmt: skip
    return worker_id


def test_an_idle_worker_of_many_jobs_is_used_again_and_again(core: Core) -> None:
    # given
    provider_id = core.provider("here", max_workers=4)
    worker_id = idle_worker(core, provider_id)

    for exit_code in (0, 1, 0):
        # when
        job_id = core.submit("here")
        core.drain()

        # then
        assert core.job(job_id).worker_id == worker_id
        core.perform(worker_id, exit_code=exit_code)
        core.drain()
        assert core.worker(worker_id).state == "READY"
    assert core.sql("SELECT count(*) AS n FROM workers")[0].n == 1


def test_a_job_being_given_to_an_idle_worker_is_not_given_a_second_one(core: Core) -> None:
    # given two idle workers and room for more; the job's EXECUTION has not begun
    provider_id = core.provider("here")
    idle_worker(core, provider_id)
    idle_worker(core, provider_id)
    job_id = core.submit("here")
    dispatch.look(core.platform)

    # when dispatchers look again meanwhile
    dispatch.look(core.platform)
    dispatch.look(core.platform)
    core.drain()

    # then
    assert [row.saga_type for row in core.sagas(job_id)] == ["EXECUTION"]
    assert core.job(job_id).state == "ASSIGNED"
    states = core.sql("SELECT state, reserved_for FROM workers ORDER BY state")
    assert [(row.state, row.reserved_for) for row in states] == [("BUSY", None), ("READY", None)]


def test_an_idle_worker_that_left_before_it_got_the_job_does_not_strand_it(core: Core) -> None:
    # given
    provider_id = core.provider("here")
    worker_id = idle_worker(core, provider_id)
    job_id = core.submit("here")
    dispatch.look(core.platform)

    # when
    core.sql("UPDATE workers SET state = 'DRAINING' WHERE id = :id", id=worker_id)
    core.drain()
    core.make_due()
    core.courier.look()
    core.drain()

    # then it has a worker of its own
    assert core.job(job_id).state == "SCHEDULED"
    assert core.job(job_id).worker_id not in (None, worker_id)


def test_a_row_without_a_heartbeat_is_no_capacity(core: Core) -> None:
    provider_id = core.provider("here")
    silent = idle_worker(core, provider_id)
    core.sql(
        "UPDATE workers SET last_heartbeat = clock_timestamp() - interval '1 min' WHERE id = :id", id=silent
    )
    job_id = core.submit("here")

    dispatch.look(core.platform)

    assert core.job(job_id).worker_id != silent


def test_a_job_that_waits_for_its_next_try_does_not_wait_in_the_queue(core: Core) -> None:
    job_id = core.submit(timeouts=Timeouts(queue_s=5.0))
    core.sql(
        "UPDATE jobs SET queued_at = clock_timestamp() - interval '60 s', due_at = clock_timestamp() - interval '4 s'"
    )

    assert repair.end_overdue_jobs(core.platform) == 0
    core.sql("UPDATE jobs SET due_at = clock_timestamp() - interval '6 s'")
    assert repair.end_overdue_jobs(core.platform) == 1
    assert core.job(job_id).error_code == "ERR_1014"


def test_a_job_that_waits_longer_than_it_may_ends_as_time_out(core: Core) -> None:
    # given
    job_id = core.submit(timeouts=Timeouts(queue_s=5.0))
    core.sql("UPDATE jobs SET queued_at = clock_timestamp() - interval '6 s' WHERE id = :id", id=job_id)
    core.sql("UPDATE jobs SET due_at = queued_at")

    # when
    repair.end_overdue_jobs(core.platform)

    # then
    job = core.job(job_id)
    assert (job.state, job.error_code, job.attempts) == ("TIMEOUT", "ERR_1014", 0)
    assert core.events(job_id) == ["JobCreated", "JobStatusChanged TIMEOUT"]
