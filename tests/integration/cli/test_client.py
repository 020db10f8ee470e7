"""The client against a server that restarts, retries jobs and answers in pages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from platform_stand_in import JOB_ID, LOG_END, Answer, StandIn, entry, job, problem

from hodei.client import following
from hodei.client.client import HodeiClient
from hodei.client.errors import ServerRefused, ServerSilent, ServerUnavailable, ServerUnreachable

JOBS = "/api/v1/jobs"
JOB = f"{JOBS}/{JOB_ID}"
AWAY = Answer(status=503, body=problem(503, "database_unavailable", "The database cannot be reached."))


@pytest.fixture
def client(platform: StandIn) -> Iterator[HodeiClient]:
    with HodeiClient(platform.url, timeout_s=5) as connected:
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


def test_a_refusal_is_not_repeated(platform: StandIn, client: HodeiClient) -> None:
    with pytest.raises(ServerRefused) as refusal:
        client.job(JOB_ID)
    assert (refusal.value.http_status, refusal.value.problem["code"]) == (404, "not_found")
    assert len(platform.requests("GET", JOB)) == 1


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
    platform.on("GET", JOB, job())
    platform.on("GET", f"{JOB}/logs", [entry(1, "a")], Answer(body=[entry(2, "b")], headers=LOG_END))
    assert texts(client) == [(1, "a"), (1, "b")]


def test_following_begins_before_there_is_an_attempt(platform: StandIn, client: HodeiClient) -> None:
    platform.on("GET", JOB, job("pending", attempts=0), job("running"), job())
    platform.on("GET", f"{JOB}/logs", [], [], Answer(body=[entry(1, "a")], headers=LOG_END))
    assert texts(client) == [(1, "a")]


def test_following_goes_on_with_a_retried_attempt(platform: StandIn, client: HodeiClient) -> None:
    platform.on(
        "GET", JOB, job("pending", attempts=1), job("running", attempts=2), job("succeeded", attempts=2)
    )
    platform.on(
        "GET",
        f"{JOB}/logs",
        Answer(body=[entry(1, "a")], headers=LOG_END),
        Answer(body=[], headers=LOG_END),
        Answer(body=[entry(1, "b", attempt=2)], headers=LOG_END),
    )
    assert texts(client) == [(1, "a"), (2, "b")]
    assert [asked.query.get("attempt") for asked in platform.requests("GET", f"{JOB}/logs")] == [
        None,
        "1",
        "2",
    ]


def test_following_shows_the_first_attempt_when_a_second_has_begun_already(
    platform: StandIn, client: HodeiClient
) -> None:
    platform.on("GET", JOB, job("succeeded", attempts=2))
    platform.on(
        "GET",
        f"{JOB}/logs",
        [entry(1, "b", attempt=2)],
        Answer(body=[entry(1, "a")], headers=LOG_END),
        Answer(body=[entry(1, "b", attempt=2)], headers=LOG_END),
    )
    assert texts(client) == [(1, "a"), (2, "b")]


def test_following_ends_without_the_header_after_a_complete_log_had_nothing_more(
    platform: StandIn, client: HodeiClient
) -> None:
    platform.on("GET", JOB, job())
    platform.on("GET", f"{JOB}/logs", [entry(1, "a")], [], [entry(2, "late")], [])
    assert texts(client) == [(1, "a"), (1, "late")]


def test_following_a_job_that_never_ran_ends_with_it(platform: StandIn, client: HodeiClient) -> None:
    platform.on("GET", JOB, job("cancelled", attempts=0))
    platform.on("GET", f"{JOB}/logs", [])
    assert texts(client) == []


def test_services_are_on_their_default_ports_of_the_same_host_when_not_named(
    platform: StandIn, client: HodeiClient
) -> None:
    platform.on("GET", "/health", {"status": "ok"})
    assert client.address("scheduler") == "http://127.0.0.1:8081"
    assert client.address("worker_manager") == "http://127.0.0.1:8082"
