"""The courier without a broker, and what tasks are called."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
import redis
import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from hodei.errors import DatabaseUnavailable
from hodei.queue import courier as couriers
from hodei.queue import names, tasks
from hodei.queue.app import make_app
from hodei.queue.courier import CeleryCourier
from hodei.queue.tasks import register
from hodei.sagas.registry import SAGA_TYPES
from hodei.services import dispatch

NOWHERE = "redis://127.0.0.1:1/0"


class NoDatabase:
    deployment = "00000000-0000-0000-0000-000000000000"


def caused(error: Exception, by: Exception) -> Exception:
    error.__cause__ = by
    return error


@pytest.fixture(autouse=True)
def patient(monkeypatch) -> None:
    """What is waited for at the end here is everything, however busy the machine is."""
    monkeypatch.setattr(couriers, "FLUSH_S", 60.0)


def alone() -> CeleryCourier:
    return CeleryCourier(NOWHERE, NoDatabase())  # type: ignore[arg-type]


def test_nobody_waits_for_a_broker_that_does_not_answer(monkeypatch) -> None:
    # given
    courier = alone()
    asked, answers = threading.Event(), threading.Event()
    monkeypatch.setattr(courier, "_guarded", lambda send: (asked.set(), answers.wait(60)))

    # when
    for _ in range(200):
        courier.look()
        courier.run_saga("EXECUTION", uuid4(), ["ValidateJob", "AssignWorker"])
        courier.destroy(uuid4())

    # then all of these calls have returned while the broker has not answered the first
    assert asked.wait(60)
    assert not answers.is_set()
    answers.set()
    courier.close()


def test_a_broker_that_is_away_is_said_to_be_and_not_to_have_been_emptied() -> None:
    courier = alone()

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


def test_looks_soon_after_one_another_are_one_which_is_not_lost(monkeypatch) -> None:
    # given a look that was sent
    monkeypatch.setattr(couriers, "GATHER_S", 600.0)
    courier, sent = alone(), []
    first = threading.Event()
    courier._send = lambda task, *arguments, queue: (sent.append(task), first.set())  # type: ignore[method-assign]
    courier.look()
    assert first.wait(10)

    # when more are asked for within the moment, and another message
    for _ in range(50):
        courier.look()
    sent_between = threading.Event()
    courier._put(sent_between.set)

    # then nothing else waits for them, and one is sent for all
    assert sent_between.wait(10)
    assert sent == [names.LOOK]
    courier.close()
    assert sent == [names.LOOK, names.LOOK]


@pytest.fixture(scope="module")
def app() -> Celery:
    """With all tasks; once, because Celery shares tasks among the apps of a process."""
    made = make_app(NOWHERE, NoDatabase.deployment)
    register(made, None)  # type: ignore[arg-type]
    return made


def test_every_step_has_a_task_of_its_own_name(app: Celery) -> None:
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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (redis.ConnectionError("Connection refused."), "broker.away"),
        (OperationalError("Connection refused."), "broker.away"),
        (TimeoutError("timed out"), "broker.away"),
        (caused(OperationalError("OOM"), redis.ResponseError("OOM command not allowed")), "broker.refused"),
        (redis.AuthenticationError("WRONGPASS"), "broker.refused"),
        (TypeError("Object of type bytes is not JSON serializable"), "courier.failed"),
        (caused(OperationalError("'x'"), KeyError("x")), "courier.failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
def test_only_a_broker_that_cannot_be_reached_is_called_away(
    error: Exception, said: str, monkeypatch
) -> None:
    # given
    courier = alone()
    tried: list[str] = []

    def send_task(name: str, **_: object) -> None:
        tried.append(name)
        raise error

    monkeypatch.setattr(courier.app, "send_task", send_task)

    # when
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            courier.destroy(uuid4())
        courier.close()

    # then a broker is given a rest, and a mistake of ours is said each time
    mistake = said == "courier.failed"
    assert [line["event"] for line in lines] == [said] * (2 if mistake else 1)
    assert len(tried) == (2 if mistake else 1)


def test_a_message_that_finds_dead_connections_after_a_restart_of_the_database_is_not_lost(
    app: Celery, monkeypatch
) -> None:
    # given
    looks: list[object] = []

    def away_at_first(platform: object) -> None:
        looks.append(platform)
        if len(looks) < 3:
            raise DatabaseUnavailable

    monkeypatch.setattr(dispatch, "look", away_at_first)

    # when
    with structlog.testing.capture_logs() as lines:
        done = app.tasks[names.LOOK].apply()

    # then
    assert done.successful()
    assert (len(looks), lines) == (3, [])


def test_a_database_that_is_away_is_one_line_in_the_controllers_log(app: Celery, monkeypatch, caplog) -> None:
    # given
    def away(*_: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(dispatch, "look", away)
    monkeypatch.setattr(tasks, "PAUSES_S", (0.0,))

    # when
    with structlog.testing.capture_logs() as lines:
        done = app.tasks[names.LOOK].apply()

    # then
    assert done.successful()
    assert [line["event"] for line in lines] == ["task: the database was away"]
    assert caplog.records == []
