"""The broker and the controller fail while jobs are under way: each job still runs once, and every saga comes to its end.

The jobs' workers are in a container of their own, the fleet's, and outlive whatever is killed here; its output is the witness
of what was started.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from celery.app.control import Inspect
from pytest_celery import CeleryTestSetup, CeleryTestWorker
from support.containered import Broker, ContaineredPlatform
from support.contract import SAGA_STEPS
from support.waiting import until

from hodei.queue import names

pytestmark = pytest.mark.docker

CREATE = names.step_task("PROVISIONING", "CreateInfrastructure")
ACCEPTED_WITHIN_S = 0.5
OUTAGE_S = 20.0


@pytest.fixture
def platform(
    celery_setup: CeleryTestSetup, platform_in_containers: ContaineredPlatform
) -> ContaineredPlatform:
    """In containers, with its controller answering over Celery."""
    assert celery_setup.ready(ping=False, control=True, docker=True)
    wait_until_it_answers(celery_setup, celery_setup.worker)
    return platform_in_containers


@pytest.fixture
def broker(default_redis_broker: Broker) -> Broker:
    return default_redis_broker


@contextlib.contextmanager
def asking(setup: CeleryTestSetup, worker: CeleryTestWorker) -> Iterator[Inspect]:
    """Celery's remote control of one controller, on a connection of its own: the app's do not survive the broker."""
    with setup.app.connection_for_write() as connection:
        yield setup.app.control.inspect(destination=[worker.hostname()], connection=connection, timeout=1)


def wait_until_it_answers(setup: CeleryTestSetup, worker: CeleryTestWorker) -> None:
    """Until this controller answers a ping over Celery's remote control."""
    name = worker.hostname()
    with asking(setup, worker) as inspect:
        until(
            lambda: (inspect.ping() or {}).get(name) == {"ok": "pong"},
            within_s=30,
            what=f"an answer of {name}",
        )


def active(setup: CeleryTestSetup) -> Counter[str]:
    """What the controller is doing now: task name → how many."""
    with asking(setup, setup.worker) as inspect:
        answer = until(inspect.active, what="the controller's answer")
    return Counter(task["name"] for task in answer[setup.worker.hostname()])


def consumed(setup: CeleryTestSetup) -> Counter[str]:
    """What the controller has consumed since its start: task name → how many."""
    with asking(setup, setup.worker) as inspect:
        answer = until(inspect.stats, what="the controller's answer")
    return Counter(answer[setup.worker.hostname()]["total"])


def test_a_broker_that_is_restarted_and_comes_back_empty_stops_no_job(
    celery_setup: CeleryTestSetup, platform: ContaineredPlatform, broker: Broker
) -> None:
    # given 20 jobs, of which some have ended, some run and some wait
    platform.add_fleet_provider(max_workers=6)
    jobs = platform.submit(20, "echo one; sleep 1; echo two")
    platform.wait_for(jobs, "SUCCEEDED", 3)
    with broker.opened() as redis:
        redis.set("a key from before", "1")

    # when the broker's container is restarted
    celery_setup.broker.restart()

    # then all of them end right, and the controller can be spoken to again
    with broker.opened() as redis:
        assert redis.get("a key from before") is None
    assert platform.states(jobs)["SUCCEEDED"] < len(jobs)
    platform.check_ran_once(platform.wait_until_ended(jobs, within_s=90), log="one\ntwo\n")
    wait_until_it_answers(celery_setup, celery_setup.worker)
    platform.wait_until_well()


def test_flushall_in_the_middle_of_a_run_stops_no_job(
    celery_setup: CeleryTestSetup, platform: ContaineredPlatform, broker: Broker
) -> None:
    # given
    platform.add_fleet_provider(max_workers=6)
    jobs = platform.submit(20, "echo one; sleep 1; echo two")

    # when all that Redis holds is thrown away, again and again
    for ended in (1, 6, 12):
        platform.wait_for(jobs, "SUCCEEDED", ended)
        with broker.opened() as redis:
            redis.flushall()
        assert platform.states(jobs)["SUCCEEDED"] < len(jobs)

    # then
    platform.check_ran_once(platform.wait_until_ended(jobs, within_s=90), log="one\ntwo\n")
    wait_until_it_answers(celery_setup, celery_setup.worker)
    platform.wait_until_well()


def test_messages_that_are_delivered_again_change_nothing(
    celery_setup: CeleryTestSetup, platform: ContaineredPlatform, broker: Broker
) -> None:
    # given steps that take so long that they are still at work when their messages come again
    platform.add_fleet_provider(max_workers=8, start_delay_s=6)
    first = platform.submit(3, "echo one; sleep 1; echo two")
    until(lambda: active(celery_setup)[CREATE] == len(first), what="steps at work")

    # when the visibility time-out of everything that is not acknowledged is over
    assert broker.make_unacknowledged_look_old(platform.deployment) >= len(first)

    # then each of these messages is consumed once more, beside the first or after it
    until(lambda: consumed(celery_setup)[CREATE] >= 2 * len(first), within_s=30, what="the redelivery")
    first_ended = platform.wait_until_ended(first, within_s=60)
    platform.check_ran_once(first_ended, log="one\ntwo\n")

    # and when every message of these jobs, and of others that run now, is sent again, in any order
    platform.sql("UPDATE provider_configs SET config = '{}'")
    others = platform.submit(3, "echo one; sleep 15; echo two")
    platform.wait_for(others, "RUNNING", len(others))
    before, had_consumed = platform.snapshot(first), consumed(celery_setup).total()
    sent = send_everything_again(celery_setup, platform, [*first, *others])
    until(
        lambda: consumed(celery_setup).total() >= had_consumed + sent and not active(celery_setup),
        within_s=30,
        what=f"the consumption of {sent} messages",
    )

    # then nothing has changed, and the others end as if nothing had been
    assert platform.states(others) == {"RUNNING": len(others)}
    assert platform.snapshot(first) == before
    platform.check_ran_once(first_ended + platform.wait_until_ended(others, within_s=60), log="one\ntwo\n")


def send_everything_again(setup: CeleryTestSetup, platform: ContaineredPlatform, job_ids: list[str]) -> int:
    """Every message that any step, undoing or end of these jobs could ever have had, twice, shuffled."""
    sagas = "SELECT id::text, saga_type, subject_id::text FROM sagas WHERE correlation_id = ANY(%s::uuid[])"
    messages = [(names.LOOK, [], names.DISPATCH)]
    for saga_id, saga_type, worker_id in platform.sql(sagas, job_ids):
        messages.append((names.DESTROY, [worker_id], names.INFRASTRUCTURE))
        for step in SAGA_STEPS[saga_type]:
            messages.append((names.step_task(saga_type, step), [saga_id], names.step_queue(step)))
        for step in UNDOABLE[saga_type]:
            messages.append((names.undo_task(saga_type, step), [saga_id], names.step_queue(step)))
    messages *= 2
    random.Random(20).shuffle(messages)
    for task, arguments, queue in messages:
        setup.app.send_task(task, args=arguments, queue=queue)
    return len(messages)


UNDOABLE = {
    "PROVISIONING": ["ValidateProviderCapacity", "RegisterWorker", "CreateInfrastructure"],
    "EXECUTION": ["AssignWorker"],
}


def test_a_controller_that_is_killed_in_a_step_is_replaced_by_another(
    celery_setup: CeleryTestSetup, platform: ContaineredPlatform, request: pytest.FixtureRequest
) -> None:
    # given jobs that run, others whose workers are being made this moment, and others that wait
    platform.add_fleet_provider(max_workers=6)
    jobs = platform.submit(3, "echo one; sleep 6; echo two")
    platform.wait_for(jobs, "RUNNING", 3)
    platform.sql("""UPDATE provider_configs SET config = '{"start_delay_s": 4}'""")
    jobs += platform.submit(6, "echo one; sleep 6; echo two")
    until(lambda: active(celery_setup)[CREATE] == 3, what="steps at work")

    # when the controller is killed
    celery_setup.worker.kill()
    assert celery_setup.worker.container.attrs["State"]["ExitCode"] == 137

    # then another one brings all of them to their end; no worker was started twice
    second = CeleryTestWorker(request.getfixturevalue("second_worker_container"), app=celery_setup.app)
    wait_until_it_answers(celery_setup, second)
    platform.check_ran_once(platform.wait_until_ended(jobs, within_s=90), log="one\ntwo\n")


def test_jobs_are_accepted_while_the_broker_stands_still_and_run_afterwards(
    celery_setup: CeleryTestSetup, platform: ContaineredPlatform, broker: Broker
) -> None:
    # given
    platform.add_fleet_provider(max_workers=8)
    jobs = platform.submit(8, "echo one; sleep 1; echo two")
    platform.wait_for(jobs, "RUNNING", 1)
    took = []

    # when no answer comes from the broker for a while
    with broker.paused(), platform.client() as client:
        client.health()  # so that the connection is there
        over = time.monotonic() + OUTAGE_S
        while time.monotonic() < over:
            began = time.monotonic()
            job = client.create_job(
                {"name": "meanwhile", "provider": "fake", "command": "echo one; sleep 1; echo two"}
            )
            took.append(time.monotonic() - began)
            jobs.append(job.id)
            time.sleep(2)  # the next submitter comes; there is nothing to wait for

    # then each was accepted at once, and all of them run
    assert max(took) < ACCEPTED_WITHIN_S, took
    platform.check_ran_once(platform.wait_until_ended(jobs, within_s=90), log="one\ntwo\n")
    wait_until_it_answers(celery_setup, celery_setup.worker)
