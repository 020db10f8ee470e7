"""The client against a server that restarts, retries jobs and answers in pages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from platform_stand_in import JOB_ID, Answer, StandIn, entry, events, job, problem

from hodei.client import following
from hodei.client.client import HodeiClient
from hodei.client.errors import NotHodei, ServerRefused, ServerSilent, ServerUnavailable, ServerUnreachable

JOBS = "/api/v1/jobs"
JOB = f"{JOBS}/{JOB_ID}"
AWAY = Answer(status=503, body=problem(503, "database_unavailable", "The database cannot be reached."))


@pytest.fixture
def client(platform: StandIn) -> Iterator[HodeiClient]:
    with HodeiClient(platform.url, timeout_s=5, patience_s=0) as connected:
        yield connected


@pytest.fixture(autouse=True)
def no_needless_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_AGAIN_S", 0.01)


def texts(client: HodeiClient) -> list[tuple[int, str]]:
    return [(item.attempt, item.text) for item in client.follow_log(JOB_ID)]


def test_a_reading_request_is_repeated_while_the_server_cannot_work(
    platform: StandIn, client: HodeiClient
) -> None:
    platform.on("GET", JOB, AWAY, AWAY, job())
    assert client.job(JOB_ID).status == "succeeded"


def test_a_server_that_goes_on_not_working_is_unavailable(platform: StandIn, client: HodeiClient) -> None:
    platform.on("GET", JOB, AWAY)
    with pytest.raises(ServerUnavailable, match="The database cannot be reached"):
        client.job(JOB_ID)
    assert len(platform.requests("GET", JOB)) == 4


def test_a_service_that_is_being_restarted_is_tried_again_and_no_request_is_done_twice(
    platform: StandIn,
) -> None:
    # given a service that is away for longer than a hiccup
    told: list[ServerUnreachable] = []
    platform.on("POST", JOBS, *[AWAY] * 6, Answer(status=201, body=job()))

    # when
    with HodeiClient(platform.url, timeout_s=5, waiting=told.append) as patient:
        made = patient.create_job({"command": "true"})

    # then
    keys = {request.headers["idempotency-key"] for request in platform.requests("POST", JOBS)}
    assert (made.id, len(platform.requests("POST", JOBS)), len(keys)) == (JOB_ID, 7, 1)
    assert len(told) == 1, "it is said once that this takes long"


def test_a_refusal_is_not_repeated(platform: StandIn, client: HodeiClient) -> None:
    with pytest.raises(ServerRefused) as refusal:
        client.job(JOB_ID)
    assert (refusal.value.http_status, refusal.value.problem["code"]) == (404, "not_found")
    assert len(platform.requests("GET", JOB)) == 1


@pytest.mark.parametrize("url", ["http://[::1", "http://[zz]", "http://[::1]:x", "ftp://here", "", "here"])
def test_what_is_no_address_of_a_server_is_said_in_a_sentence(url: str) -> None:
    with pytest.raises(NotHodei, match="not an http URL"):
        HodeiClient(url, patience_s=0).job(JOB_ID)


def test_an_id_cannot_lead_to_another_path(platform: StandIn, client: HodeiClient) -> None:
    with pytest.raises(ServerRefused):
        client.job("../providers?x=")
    assert platform.asked[0].path == f"{JOBS}/..%2Fproviders%3Fx%3D"


def test_a_batch_answers_its_jobs(platform: StandIn, client: HodeiClient) -> None:
    platform.on("POST", f"{JOBS}/batch", Answer(status=201, body=[job(), job()]))
    assert [item.id for item in client.create_jobs([{"command": "a"}, {"command": "b"}])] == [JOB_ID, JOB_ID]
    assert platform.asked[0].body == {"jobs": [{"command": "a"}, {"command": "b"}]}


def test_jobs_are_fetched_page_after_page_only_as_far_as_asked(
    platform: StandIn, client: HodeiClient
) -> None:
    following_page = {"Link": f'<{JOBS}?cursor=2>; rel="next"'}
    platform.on("GET", JOBS, Answer(body=[job(), job()], headers=following_page))
    assert len(list(client.jobs(limit=5))) == 5
    assert len(platform.requests("GET", JOBS)) == 3


def test_the_log_is_also_there_as_text(platform: StandIn, client: HodeiClient) -> None:
    platform.on("GET", f"{JOB}/logs", "one\ntwo\n")
    assert client.log_text(JOB_ID) == "one\ntwo\n"
    assert platform.asked[0].headers["accept"] == "text/plain"


def test_waiting_survives_a_server_that_restarts(platform: StandIn, client: HodeiClient) -> None:
    port = platform.port
    platform.on("GET", JOB, job("running"))
    platform.stop()
    restarted: list[StandIn] = []

    def restart() -> None:
        server = StandIn(port)
        server.on("GET", JOB, job("succeeded"))
        restarted.append(server)

    timer = threading.Timer(1.5, restart)
    timer.start()
    try:
        assert client.wait(JOB_ID, patience_s=20).status == "succeeded"
    finally:
        timer.join()
        restarted[0].stop()


def test_waiting_gives_up_after_its_patience(platform: StandIn, client: HodeiClient) -> None:
    platform.stop()
    started = time.monotonic()
    with pytest.raises(ServerUnreachable, match="hodei dev"):
        client.wait(JOB_ID, patience_s=0.2)
    assert time.monotonic() - started < 10


def test_an_answer_that_does_not_come_is_told(platform: StandIn) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        with HodeiClient(f"http://127.0.0.1:{mute.getsockname()[1]}", timeout_s=0.2) as client:
            with pytest.raises(ServerSilent, match=r"0\.2 s"):
                client.job(JOB_ID)


def test_following_ends_when_the_log_does(platform: StandIn, client: HodeiClient) -> None:
    platform.on("GET", f"{JOB}/logs", events("attempt 1", entry(1, "a"), entry(2, "b")))
    assert texts(client) == [(1, "a"), (1, "b")]
    assert platform.asked[0].headers["last-event-id"] == "0-0"


def test_following_goes_on_where_a_stream_broke_or_ended_early(
    platform: StandIn, client: HodeiClient
) -> None:
    whole = events("attempt 1", entry(1, "a"), entry(2, "b"), status=None)
    platform.on(
        "GET",
        f"{JOB}/logs",
        whole[: whole.rindex('"text"')],
        AWAY,
        events(status=None),
        events(entry(2, "b"), "attempt 2", entry(1, "c", attempt=2), status=None) + "id: 2-9\n\n",
        events(entry(10, "d", attempt=2)),
    )
    assert texts(client) == [(1, "a"), (1, "b"), (2, "c"), (2, "d")]
    places = [asked.headers["last-event-id"] for asked in platform.requests("GET", f"{JOB}/logs")]
    assert places == ["0-0", "1-1", "1-1", "1-1", "2-9"]


def test_following_gives_up_after_its_patience(platform: StandIn, client: HodeiClient) -> None:
    platform.on("GET", f"{JOB}/logs", AWAY)
    with pytest.raises(ServerUnavailable, match="The database cannot be reached"):
        list(client.follow_log(JOB_ID, patience_s=0.05))


def test_following_what_is_not_there_is_refused_at_once(platform: StandIn, client: HodeiClient) -> None:
    with pytest.raises(ServerRefused):
        texts(client)
    assert len(platform.asked) == 1


def test_events_of_tomorrow_are_passed_over(platform: StandIn, client: HodeiClient) -> None:
    news = 'event: usage\nid: 1-1\ndata: {"cpu":1}\n\n: comment\n\n'
    platform.on("GET", f"{JOB}/logs", news + events(entry(2, "b", field_of_tomorrow=1)))
    assert texts(client) == [(1, "b")]


def test_services_are_on_their_default_ports_of_the_same_host_when_not_named(
    platform: StandIn, client: HodeiClient
) -> None:
    platform.on("GET", "/health", {"status": "ok"})
    assert client.address("scheduler") == "http://127.0.0.1:8081"
    assert client.address("worker_manager") == "http://127.0.0.1:8082"


def test_after_an_interrupt_that_left_the_connections_locked_others_are_used(
    platform: StandIn, client: HodeiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: an interrupt in the middle of a call, which nothing may wait for any more
    platform.on("GET", JOB, job())
    client.job(JOB_ID)
    [interrupted] = client._services.values()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the interrupted connections were used")

    monkeypatch.setattr(interrupted, "send", never)
    monkeypatch.setattr(interrupted, "close", never)

    # when
    client.forget_connections()

    # then
    assert client.job(JOB_ID).status == "succeeded"
    monkeypatch.undo()
    interrupted.close()
