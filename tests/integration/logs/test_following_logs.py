"""Following a log: live, resumed on another server, over attempts, and without a connection held."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.platform import RunningPlatform
from support.servers import Servers
from support.waiting import until
from support.written_logs import LiveCore, WrittenJob

from hodei.client.shapes import LogAttempt, LogEnd, LogEntry
from hodei.logs import chunks
from hodei.services import following, logs

ENDS_WITHIN_S = 2.0


class Follower:
    """Follows in a thread of its own, over raw HTTP; keeps each event and when it came."""

    def __init__(self, url: str, query: str = "follow=1", **headers: str) -> None:
        self.url, self.query, self.headers = url, query, headers
        self.events: list[tuple[str, str, Any]] = []
        self.times: list[float] = []
        self.comments = 0
        self.status = 0
        self.answered: httpx.Headers | None = None
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with (
                httpx.Client(timeout=60, trust_env=False) as http,
                http.stream("GET", f"{self.url}?{self.query}", headers=self.headers) as answer,
            ):
                self.status, self.answered = answer.status_code, answer.headers
                rest = b""
                for block in answer.iter_bytes():
                    *whole, rest = (rest + block).split(b"\n\n")
                    for text in whole:
                        self._note(text.decode())
        except httpx.TransportError:
            pass
        finally:
            self.over.set()

    def _note(self, text: str) -> None:
        fields = dict(line.partition(": ")[::2] for line in text.split("\n"))
        if "data" not in fields:
            self.comments += 1
            return
        self.times.append(time.monotonic())
        self.events.append((fields.get("event", "entry"), fields["id"], json.loads(fields["data"])))

    @property
    def texts(self) -> list[str]:
        return [data["text"] for name, _, data in self.events if name == "entry"]

    @property
    def last_id(self) -> str:
        return self.events[-1][1]

    @property
    def end(self) -> Any:
        return next((data for name, _, data in self.events if name == "end"), None)

    def until(self, count: int) -> None:
        until(lambda: len(self.texts) >= count, what=f"{count} entries")


@pytest.fixture
def url(serving: RunningPlatform, written: WrittenJob) -> str:
    return f"{serving.url}{written.path}"


def test_entries_come_as_they_are_written_each_with_its_place_and_then_the_end(
    url: str, written: WrittenJob
) -> None:
    # given
    written.write(b"before\n")
    follower = Follower(url)
    follower.until(1)

    # when
    written.write(b"a\nb\n", ("stderr", b"\x1b[31m\xff\0"))
    written.end(3)

    # then
    assert follower.over.wait(60)
    assert [(name, place) for name, place, _ in follower.events] == [
        ("attempt", "1-0"),
        ("entry", "1-1"),
        ("entry", "1-2"),
        ("entry", "1-3"),
        ("entry", "1-4"),
        ("end", "1-4"),
    ]
    assert follower.texts == ["before", "a", "b", "\x1b[31m\ufffd\0"]
    assert follower.end["status"] == "failed"
    assert (follower.end["exit_code"], follower.end["status_code"]) == (3, 5)
    assert follower.end["error"]["code"] == "ERR_1007"
    assert follower.end["log"] == {"entries": 4, "bytes": 18, "complete": True}
    assert follower.answered is not None
    assert follower.answered["Content-Type"] == "text/event-stream; charset=utf-8"
    assert follower.answered["Cache-Control"] == "no-store"
    assert follower.answered["X-Accel-Buffering"] == "no"


def test_a_line_is_there_at_once(url: str, written: WrittenJob) -> None:
    follower = Follower(url)
    written.write(b"first\n")
    follower.until(1)
    delays = []
    for number in range(20):
        written.write(b"line %d\n" % number)
        stored = time.monotonic()
        follower.until(number + 2)
        delays.append(follower.times[-1] - stored)
    written.end()

    assert sorted(delays)[10] < 0.1


def test_following_goes_on_after_the_last_event_that_was_got(url: str, written: WrittenJob) -> None:
    for number in range(10):
        written.write(b"%d\n" % (2 * number), b"%d\n" % (2 * number + 1))
    first = Follower(url)
    first.until(20)

    for after in (0, 7, 13, 19, 20):
        again = Follower(url, **{"Last-Event-ID": f"1-{after}"})
        again.until(20 - after)
        assert again.texts == [str(n) for n in range(after, 20)]
        assert ("attempt" in [name for name, _, _ in again.events]) is (after == 0)
    written.end()
    assert first.over.wait(60)


def test_an_ended_log_is_followed_to_its_end_at_once(url: str, written: WrittenJob) -> None:
    written.write(b"all\n")
    written.end()

    follower = Follower(url)

    assert follower.over.wait(60)
    assert follower.texts == ["all"]
    assert follower.end["status"] == "succeeded"


def test_a_job_that_has_not_started_is_waited_for(serving: RunningPlatform, writer: LiveCore) -> None:
    provider = f"late-{time.monotonic_ns()}"
    writer.provider(provider)
    job_id = writer.submit(provider, command="true")
    follower = Follower(f"{serving.url}/api/v1/jobs/{job_id}/logs")
    until(lambda: follower.status == 200, what="the answer")

    job = WrittenJob.__new__(WrittenJob)
    job.core, job.job_id = writer, job_id
    job.begin_attempt()
    job.write(b"here\n")
    job.end()

    assert follower.over.wait(60)
    assert follower.texts == ["here"]


def test_a_retry_is_announced_and_followed(serving: RunningPlatform, writer: LiveCore) -> None:
    # given
    job = writer.write_job(retries=1)
    url = f"{serving.url}{job.path}"
    follower, one = Follower(url), Follower(url, "follow=1&attempt=1")
    job.write(b"first\n")
    first = job.execution_id

    # when
    job.end(7)
    job.begin_attempt()
    job.write(b"second\n")
    job.end()

    # then
    assert follower.over.wait(60)
    assert [(name, place) for name, place, _ in follower.events] == [
        ("attempt", "1-0"),
        ("entry", "1-1"),
        ("attempt", "2-0"),
        ("entry", "2-1"),
        ("end", "2-1"),
    ]
    assert follower.events[0][2]["execution_id"] == str(first)
    assert one.over.wait(60)
    assert one.texts == ["first"]
    assert one.end["execution_status"] == "failed"
    manager = f"{serving.service_url('worker-manager')}/api/v1/executions/{first}/logs"
    by_execution = Follower(manager)
    assert by_execution.over.wait(60)
    assert by_execution.texts == ["first"]
    resumed = Follower(url, **{"Last-Event-ID": "1-1"})
    assert resumed.over.wait(60)
    assert resumed.texts == ["second"]
    for place in ("0-0", "1-1", "2-0"):
        only_second = Follower(url, "follow=1&attempt=2", **{"Last-Event-ID": place})
        assert only_second.over.wait(60)
        assert only_second.texts == ["second"]


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("tail=1", ["b2", "a3", "b3"]),
        ("tail=0", ["a3", "b3"]),
        ("stream=stderr", ["b1", "b2", "b3"]),
        ("grep=A&ignore_case=1", ["a1", "a2", "a3"]),
        ("tail=1&grep=a", ["a2", "a3"]),
        ("since=1h", ["a1", "b1", "a2", "b2", "a3", "b3"]),
        ("after=2", ["a2", "b2", "a3", "b3"]),
    ],
)
def test_a_part_is_followed(url: str, written: WrittenJob, query: str, texts: list[str]) -> None:
    for number in (1, 2):
        written.write(b"a%d\n" % number, ("stderr", b"b%d\n" % number))
    follower = Follower(url, f"follow=1&{query}")
    until(lambda: follower.events, what="the attempt's announcement")

    written.write(b"a3\n", ("stderr", b"b3\n"))
    written.end()

    assert follower.over.wait(60)
    assert follower.texts == texts


def test_who_follows_since_some_time_ago_goes_on_where_it_stopped_however_long_that_took(
    url: str, written: WrittenJob
) -> None:
    # given: what was followed for the last five seconds, an hour ago
    for line in (b"seen\n", b"meanwhile\n"):
        written.write(line, at_us=int((time.time() - 3600) * 1e6))
    # when
    resumed = Follower(url, "follow=1&since=5s", **{"Last-Event-ID": "1-1"})
    written.write(b"now\n")
    written.end()
    # then
    assert resumed.over.wait(60)
    assert resumed.texts == ["meanwhile", "now"]


def test_a_followed_line_is_wanted_whole_also_when_it_is_followed_from_within(
    url: str, written: WrittenJob
) -> None:
    # given
    follower, other = Follower(url, "follow=1&grep=B%20...%20failed"), Follower(url, "follow=1&grep=Building")

    # when
    written.write(b"Building A ... ")
    written.write(b"ok\n")
    written.write(b"Building B ... ")
    other.until(3)
    resumed = Follower(url, "follow=1&grep=Building", **{"Last-Event-ID": other.last_id})
    written.write(("stderr", b"B is old\n"))
    written.write(b"failed\n")
    written.end()

    # then
    for each, texts in (
        (follower, ["Building B ... ", "failed"]),
        (other, ["Building A ... ", "ok", "Building B ... ", "failed"]),
        (resumed, ["failed"]),
    ):
        assert each.over.wait(60)
        assert each.texts == texts
        assert each.end["log"]["complete"]


def test_a_wanted_line_is_followed_on_from_the_logs_very_end(writer: LiveCore) -> None:
    # given what was followed: all that there was, in the middle of a line that is wanted and of one that may be
    job = writer.write_job()
    job.write(b"Building A ... ", ("stderr", b"what is Buil"), b"compiled ... ")
    part = logs.Part(selection=logs.Selection(grep="Building"))
    start = following.begin(writer.platform, logs.Which(job_id=job.job_id), part, (1, 3))
    # when
    job.write(b"ok\n", ("stderr", b"ding?\n"), b"over\n")
    job.end()
    # then
    told = b"".join(following.follow(writer.platform, start))
    assert [event.partition(b"\n")[0] for event in told.split(b"id: ")[1:]] == [b"1-4", b"1-5", b"1-6"]
    assert b'"text":"ok"' in told and b'"text":"ding?"' in told and b'"text":"over"' not in told


def test_what_waits_behind_a_question_is_told_when_nothing_more_comes(
    writer: LiveCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a line that does not end, and one on the other stream
    monkeypatch.setattr(following, "KEEP_ALIVE_S", 0.1)
    job = writer.write_job()
    job.write(b"before\n", b"Continue? ", ("stderr", b"error\n"))
    part = logs.Part(selection=logs.Selection(grep="error"))

    # when
    start = following.begin(writer.platform, logs.Which(job_id=job.job_id), part, None)
    stream = following.follow(writer.platform, start)
    told = [block for block in islice(stream, 4) if block.startswith(b"id: ")]

    # then
    assert told[0].startswith(b"id: 1-3\ndata: ")
    stream.close()
    job.end()


def test_a_place_that_is_none_and_a_job_that_is_not_there_are_problems(
    url: str, serving: RunningPlatform
) -> None:
    assert httpx.get(f"{url}?follow=1", headers={"Last-Event-ID": "here"}).status_code == 422
    beyond = httpx.get(f"{url}?follow=1", headers={"Last-Event-ID": "3-0"})
    assert (beyond.status_code, beyond.json()["field"]) == (422, "Last-Event-ID")
    unknown = f"{serving.url}/api/v1/jobs/0196a3c4-0000-7000-8000-000000000001/logs?follow=1"
    assert httpx.get(unknown).status_code == 404


def test_streams_that_wait_say_that_they_live_and_where_they_are(
    writer: LiveCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given one that got everything, and one that wanted nothing of it
    monkeypatch.setattr(following, "KEEP_ALIVE_S", 0.1)
    job = writer.write_job()
    job.write(b"a\nb\n")
    which = logs.Which(job_id=job.job_id)
    parts = [logs.Part(), logs.Part(selection=logs.Selection(grep="nothing"))]

    # then
    for part, expected in zip(parts, [following.KEEP_ALIVE, b"id: 1-2\n\n"], strict=True):
        stream = following.follow(writer.platform, following.begin(writer.platform, which, part, None))
        until(lambda stream=stream, expected=expected: next(stream) == expected, what="the sign of life")
        stream.close()
    job.end()


@contextmanager
def one_more_server(servers: Servers, database_url: str, folder: Path) -> Iterator[RunningPlatform]:
    with RunningPlatform(folder, database_url, servers.redis_url, names=["serve"]) as started:
        yield started


@contextmanager
def written_on(job: WrittenJob) -> Iterator[list[int]]:
    """A thousand numbered lines a second until the end of the block; then the list has how many there were."""
    stop, counts = threading.Event(), list[int]()

    def numbers() -> None:
        count = 0
        while not stop.is_set():
            job.write(b"".join(b"%d\n" % (count + number) for number in range(20)))
            count += 20
            stop.wait(0.02)
        counts.append(count)

    thread = threading.Thread(target=numbers)
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stream_goes_on_elsewhere_without_loss_or_repeat(
    servers: Servers,
    logs_database_url: str,
    serving: RunningPlatform,
    writer: LiveCore,
    tmp_path: Path,
    number: int,
) -> None:
    # given twenty followers of a server that will be gone
    job = writer.write_job()
    with written_on(job) as counts:
        with one_more_server(servers, logs_database_url, tmp_path) as other:
            here = [Follower(f"{other.url}{job.path}") for _ in range(20)]
            for follower in here:
                follower.until(300)

            # when
            began = time.monotonic()
            other.kill("serve", number)
            for follower in here:
                assert follower.over.wait(ENDS_WITHIN_S)
            assert time.monotonic() - began < ENDS_WITHIN_S
            assert all(follower.end is None for follower in here)
        there = [
            Follower(f"{serving.url}{job.path}", **{"Last-Event-ID": follower.last_id}) for follower in here
        ]
    job.end()

    # then
    expected = [str(n) for n in range(counts[0])]
    for before, after in zip(here, there, strict=True):
        assert after.over.wait(60)
        assert before.texts + after.texts == expected
        assert after.end["log"]["entries"] == counts[0]


def test_two_hundred_followers_hold_no_connection(url: str, written: WrittenJob, writer: LiveCore) -> None:
    # given
    written.write(b"0\n")
    followers = [Follower(url) for _ in range(200)]
    for follower in followers:
        follower.until(1)

    # then none of the server's connections does anything but the one that looks for all
    busy = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'hodei all' AND state <> 'idle'"
    )
    assert max(writer.sql(busy)[0].n for _ in range(50)) <= 2

    # and all of them get everything
    for number in range(1, 21):
        written.write(b"%d\n" % number)
    written.end()
    for follower in followers:
        assert follower.over.wait(60)
        assert follower.texts == [str(n) for n in range(21)]


def test_what_many_follow_is_read_once(writer: LiveCore, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    reads, real = list[int](), chunks.read
    monkeypatch.setattr(chunks, "read", lambda *given, **named: (reads.append(1), real(*given, **named))[1])
    job = writer.write_job()
    job.write(b"0\n")
    start = following.begin(writer.platform, logs.Which(job_id=job.job_id), logs.Part(), None)
    received = [b""] * 50

    def follow(number: int) -> None:
        for block in following.follow(writer.platform, start):
            received[number] += block

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()

    # when
    for number in range(11):
        if number:
            job.write(b"%d\n" % number)
        line = b'"text":"%d"' % number
        until(lambda line=line: all(line in got for got in received), what="the line")

    # then
    assert len(reads) == 11
    job.end()
    for thread in threads:
        thread.join(10)
    assert {got.count(b"\ndata: ") for got in received} == {13}  # the attempt, eleven lines, the end


def test_a_slow_follower_waits_in_its_own_socket_and_holds_up_nobody(
    serving: RunningPlatform, url: str, written: WrittenJob
) -> None:
    with httpx.Client(timeout=60, trust_env=False) as http, http.stream("GET", f"{url}?follow=1") as slow:
        quick = Follower(url)
        line = b"x" * 1000 + b"\n"
        for _ in range(100):
            written.write(line * 60, line * 60)
        quick.until(12_000)
        written.write(b"last\n")
        written.end()
        assert quick.over.wait(60)

        received = b"".join(slow.iter_bytes())

    assert received.count(b'\ndata: {"seq"') == 12_001
    assert b"event: end" in received


def test_the_client_follows_over_a_restart(
    servers: Servers, logs_database_url: str, writer: LiveCore, tmp_path: Path
) -> None:
    job = writer.write_job()
    told: list[LogEntry | LogAttempt | LogEnd] = []
    with one_more_server(servers, logs_database_url, tmp_path) as server, server.client() as client:
        reader = threading.Thread(target=lambda: told.extend(client.log_events(str(job.job_id))))
        with written_on(job) as counts:
            reader.start()
            for _ in range(2):
                seen = len(told)
                until(lambda seen=seen: len(told) > seen + 200, what="more lines")
                server.kill("serve")
                server.start("serve")
        job.end()
        reader.join(30)

    assert [item.text for item in told if isinstance(item, LogEntry)] == [str(n) for n in range(counts[0])]
    assert isinstance(told[-1], LogEnd)
    assert [item.attempt for item in told if isinstance(item, LogAttempt)] == [1]
