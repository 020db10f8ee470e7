"""The courier without a broker, and what tasks are called."""

from __future__ import annotations

import threading
import time
from uuid import uuid4

from hodei.queue import courier as couriers
from hodei.queue import names
from hodei.queue.app import make_app
from hodei.queue.courier import CeleryCourier
from hodei.queue.tasks import register
from hodei.sagas.registry import SAGA_TYPES

NOWHERE = "redis://127.0.0.1:1/0"


class NoDatabase:
    deployment = "00000000-0000-0000-0000-000000000000"


def alone() -> CeleryCourier:
    return CeleryCourier(NOWHERE, NoDatabase())  # type: ignore[arg-type]


def test_nobody_waits_for_a_broker_that_is_away() -> None:
    # given
    courier = alone()

    # when
    began = time.monotonic()
    for _ in range(200):
        courier.look()
        courier.run_saga("EXECUTION", uuid4(), ["ValidateJob", "AssignWorker"])
        courier.destroy(uuid4())
    spent_s = time.monotonic() - began

    # then
    assert spent_s < 0.5
    assert "cannot be reached" in (courier.ping() or "")
    assert courier.was_emptied() is False
    courier.close()


def test_a_look_that_found_no_room_is_not_the_last(monkeypatch) -> None:
    # given a courier that is busy and whose queue is full
    monkeypatch.setattr(couriers, "MOST_WAITING", 1)
    courier = alone()
    busy, leave = threading.Event(), threading.Event()
    courier._put(lambda: (busy.set(), leave.wait(10)))
    busy.wait(10)
    courier._put(lambda: None)

    # when
    sent = []
    monkeypatch.setattr(courier, "_send", lambda task, *arguments, queue: sent.append(task))
    courier.look()
    leave.set()
    courier.close()
    courier.look()
    courier.close()

    # then
    assert sent == [names.LOOK]


def test_looks_that_wait_are_one() -> None:
    courier = alone()
    busy, leave, sent = threading.Event(), threading.Event(), []
    courier._put(lambda: (busy.set(), leave.wait(10)))
    busy.wait(10)
    courier._send = lambda task, *arguments, queue: sent.append(task)  # type: ignore[method-assign]

    for _ in range(50):
        courier.look()
    leave.set()
    courier.close()

    assert sent == [names.LOOK]


def test_every_step_has_a_task_of_its_own_name() -> None:
    app = make_app(NOWHERE, NoDatabase.deployment)

    register(app, None)  # type: ignore[arg-type]

    prefixes = {"dispatch", "workers", "images", *(saga.name.lower() for saga in SAGA_TYPES)}
    wanted = {names.LOOK, names.DESTROY, names.PULL}
    for saga in SAGA_TYPES:
        for step in saga.steps:
            wanted.add(names.step_task(saga.name, step.name))
            if step.undoable:
                wanted.add(names.undo_task(saga.name, step.name))
    assert {name for name in app.tasks if name.split(".")[0] in prefixes} == wanted
    assert "provisioning.create_infrastructure" in wanted
    assert "execution.undo.assign_worker" in wanted


def test_queues_are_named_without_exchanges() -> None:
    app = make_app(NOWHERE, NoDatabase.deployment)

    assert [queue.name for queue in app.conf.task_queues] == list(names.QUEUES)
    assert all(not queue.exchange.name for queue in app.conf.task_queues)
