"""Reading a log over HTTP, in every form and every part of it."""

from __future__ import annotations

import base64
import gzip
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import httpx
import pytest
from support.platform import RunningPlatform
from support.servers import Servers
from support.waiting import until
from support.written_logs import LiveCore, WrittenJob

from hodei.client.shapes import LogSelection

TEXT = {"Accept": "text/plain"}
LINES = [
    ("stdout", b"one\n"),
    ("stderr", b"oops: \x1b[31mred\x1b[0m\n"),
    ("stdout", "zwei é\n".encode()),
    ("stdout", b"bad \xff\xc3 and NUL \0 stay\n"),
    ("stderr", b"Oops again\n"),
    ("stdout", b"no newline"),
]
WHOLE = b"".join(data for _, data in LINES)


@pytest.fixture(scope="module")
def ended(writer: LiveCore) -> WrittenJob:
    """A job that wrote LINES in several frames and ended."""
    job = writer.write_job()
    for first in range(0, len(LINES), 2):
        job.write(*LINES[first : first + 2])
    job.end()
    return job


def texts(http: httpx.Client, job: WrittenJob, query: str = "") -> list[str]:
    answer = http.get(f"{job.path}?{query}")
    assert answer.status_code == 200, answer.text
    return [entry["text"] for entry in answer.json()]


def test_entries_are_json_whatever_the_job_wrote(http: httpx.Client, ended: WrittenJob) -> None:
    answer = http.get(ended.path)

    entries = answer.json()
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry["stream"] for entry in entries] == [stream for stream, _ in LINES]
    assert entries[1]["text"] == "oops: \x1b[31mred\x1b[0m"
    assert entries[3]["text"] == "bad \ufffd\ufffd and NUL \0 stay"
    assert base64.b64decode(entries[3]["bytes"]) == b"bad \xff\xc3 and NUL \0 stay"
    assert [entry.get("partial") for entry in entries] == [None] * 5 + [True]
    assert "bytes" not in entries[2]
    assert datetime.fromisoformat(entries[0]["at"]) <= datetime.now(UTC)
    assert answer.headers["Hodei-Log-End"] == answer.headers["Hodei-Log-Complete"] == "true"
    assert answer.headers["Hodei-Log-Attempt"] == "1"


def test_the_exact_bytes_are_there_and_the_text_shows_what_is_none(
    http: httpx.Client, ended: WrittenJob
) -> None:
    by_accept = http.get(ended.path, headers={"Accept": "application/octet-stream"})
    text = http.get(ended.path, headers=TEXT)

    assert http.get(f"{ended.path}?raw=1").content == by_accept.content == WHOLE
    assert by_accept.headers["Content-Type"] == "application/octet-stream"
    assert text.content == WHOLE.decode("utf-8", "replace").encode()
    assert text.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_each_stream_has_its_own_bytes(http: httpx.Client, ended: WrittenJob) -> None:
    for stream in ("stdout", "stderr"):
        wanted = b"".join(data for name, data in LINES if name == stream)
        assert http.get(f"{ended.path}?raw=1&stream={stream}").content == wanted
    assert texts(http, ended, "stream=stderr") == ["oops: \x1b[31mred\x1b[0m", "Oops again"]


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("tail=2", [5, 6]),
        ("tail=0", []),
        ("tail=100", [1, 2, 3, 4, 5, 6]),
        ("tail=1&stream=stderr", [5]),
        ("tail=2&grep=n", [5, 6]),
        ("after=4", [5, 6]),
        ("after=1&limit=2", [2, 3]),
        ("after=6", []),
        ("tail=3&limit=1", [4]),
        ("grep=oops", [2]),
        ("grep=oops&ignore_case=1", [2, 5]),
        ("grep=Z&ignore_case=true&stream=stdout", [3]),
        ("grep=nowhere", []),
        ("grep=%C3%A9", [3]),
    ],
)
def test_a_part_of_a_log(http: httpx.Client, ended: WrittenJob, query: str, seqs: list[int]) -> None:
    assert [entry["seq"] for entry in http.get(f"{ended.path}?{query}").json()] == seqs
    raw = http.get(f"{ended.path}?raw=1&{query}").content
    assert raw == b"".join(LINES[seq - 1][1] for seq in seqs)


@pytest.mark.parametrize(
    ("query", "ends"),
    [
        ("", True),
        ("limit=6", True),
        ("limit=5", False),
        ("tail=2", True),
        ("grep=o&limit=1", False),
        ("grep=o", True),
    ],
)
def test_the_end_is_said_only_where_nothing_follows(
    http: httpx.Client, ended: WrittenJob, query: str, *, ends: bool
) -> None:
    assert ("Hodei-Log-End" in http.get(f"{ended.path}?{query}").headers) is ends


@pytest.fixture(scope="module")
def building(writer: LiveCore) -> WrittenJob:
    """A job that wrote its lines with pauses: each write is a segment of its own."""
    job = writer.write_job()
    job.write(b"Building A ... ", ("stderr", b"warning: "), b"ok\n", b"Building B ... ")
    job.write(("stderr", b"B is old\n"), b"failed\n", b"Building C ... skipped\n")
    job.end()
    return job


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("grep=Building", [1, 3, 4, 6, 7]),
        ("grep=B%20...%20failed", [4, 6]),
        ("grep=FAILED&ignore_case=1", [4, 6]),
        ("grep=old", [2, 5]),
        ("grep=old&stream=stdout", []),
        ("tail=2&stream=stdout", [4, 6, 7]),
        ("tail=2", [4, 6, 7]),
        ("tail=3", [2, 4, 5, 6, 7]),
        ("tail=1&grep=B", [7]),
        ("tail=2&grep=ok", [1, 3]),
        ("grep=Building&limit=1", [1]),
        ("grep=Building&after=1", [3, 4, 6, 7]),
        ("grep=Building&after=3&limit=2", [4, 6]),
        ("grep=failed&after=3", [4, 6]),
        ("after=5&tail=2&grep=failed", [6]),
    ],
)
def test_a_line_that_was_written_with_pauses_is_one_line(
    http: httpx.Client, building: WrittenJob, query: str, seqs: list[int]
) -> None:
    whole = http.get(building.path).json()
    wanted = [entry for entry in whole if entry["seq"] in seqs]

    assert http.get(f"{building.path}?{query}").json() == wanted
    text = "".join(entry["text"] + ("" if entry.get("partial") else "\n") for entry in wanted)
    assert http.get(f"{building.path}?{query}", headers=TEXT).text == text


@pytest.mark.parametrize("text", ["n", "ok", "old", "B is", "g: B", "... failed", "."])
@pytest.mark.parametrize("stream", [None, "stderr"])
def test_page_after_page_has_the_same_lines_as_one(
    http: httpx.Client, building: WrittenJob, text: str, stream: str | None
) -> None:
    query = {"grep": text} | ({"stream": stream} if stream else {})
    whole = http.get(building.path, params=query).json()
    for limit in (1, 2, 3):
        paged: list[dict[str, object]] = []
        after = 0
        while page := http.get(building.path, params={**query, "limit": limit, "after": after}).json():
            paged += page
            after = page[-1]["seq"]
        assert paged == whole


def test_the_client_gets_the_last_lines_and_nothing_of_one_before_them(
    serving: RunningPlatform, building: WrittenJob
) -> None:
    with serving.client() as client:
        got = client.log(str(building.job_id), selection=LogSelection(tail=2))

        assert [entry.seq for entry in got] == [4, 6, 7]


def test_the_client_gets_what_is_stored_now_though_the_job_writes_on(
    serving: RunningPlatform, written: WrittenJob
) -> None:
    # given
    written.write(b"1\n2\n3\n")
    # when: whenever something was got there is more
    seqs: list[int] = []
    with serving.client() as client:
        for page in islice(client.log_pages(str(written.job_id)), 10):
            seqs += [entry.seq for entry in page.entries]
            written.write(b"more\n")
    # then
    assert seqs == [1, 2, 3]


def test_a_client_that_reads_slowly_gets_all_since_the_moment_it_began(
    serving: RunningPlatform, writer: LiveCore
) -> None:
    # given: more than a page, from a second before the moment until it
    job = writer.write_job()
    job.write(b"line\n" * 6000, at_us=int((time.time() - 9) * 1e6))
    job.end()
    # when: the second page is asked for when the moment is another
    with serving.client() as client:
        pages = client.log_pages(str(job.job_id), selection=LogSelection(since="10s"))
        count = len(next(pages).entries)
        until(lambda: client.log_page(str(job.job_id), selection=LogSelection(since="10s")).entries == [])
        count += sum(len(page.entries) for page in pages)
    # then
    assert count == 6000


def test_since_is_a_time_or_how_long_ago(http: httpx.Client, writer: LiveCore) -> None:
    # given
    job, now = writer.write_job(), datetime.now(UTC)
    for ago_s, line in ((7200, b"two hours\n"), (600, b"ten minutes\n"), (1, b"just now\n")):
        job.write(line, at_us=int((now - timedelta(seconds=ago_s)).timestamp() * 1e6))

    # then
    assert texts(http, job, "since=5m") == ["just now"]
    assert texts(http, job, "since=1h&tail=1") == ["just now"]
    assert texts(http, job, "since=3600") == ["ten minutes", "just now"]
    at = (now - timedelta(hours=3)).isoformat().replace("+", "%2B")
    assert len(texts(http, job, f"since={at}")) == 3
    assert texts(http, job, "since=9999-12-31T23:59:59-14:00") == []  # in UTC, after the last of all years
    assert texts(http, job, f"since={(now - timedelta(minutes=20)).strftime('%Y-%m-%dT%H:%M:%SZ')}") == [
        "ten minutes",
        "just now",
    ]


@pytest.mark.parametrize("query", ["since=soon", "tail=-1", "stream=both", "grep=", "limit=0", "since=1e99d"])
def test_a_part_that_is_none_is_refused_with_its_name(
    http: httpx.Client, ended: WrittenJob, query: str
) -> None:
    answer = http.get(f"{ended.path}?{query}")

    assert answer.status_code == 422
    assert answer.json()["field"] == query.partition("=")[0]


def test_packed_when_the_caller_takes_it(serving: RunningPlatform, ended: WrittenJob) -> None:
    with httpx.Client(base_url=serving.url, trust_env=False) as http:
        with http.stream("GET", f"{ended.path}?raw=1", headers={"Accept-Encoding": "gzip"}) as answer:
            packed = b"".join(answer.iter_raw())
        plain = http.get(f"{ended.path}?raw=1", headers={"Accept-Encoding": "identity"})

    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == WHOLE
    assert "Content-Encoding" not in plain.headers
    assert plain.content == WHOLE


def test_a_download_has_a_name(http: httpx.Client, ended: WrittenJob) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

    answer = http.get(f"{ended.path}?download=1", headers=browser)

    name = f"t-{str(ended.job_id)[:8]}-attempt-1"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}.log"'
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert http.get(f"{ended.path}?download=1&raw=1").content == WHOLE
    as_json = http.get(f"{ended.path}?download=1", headers={"Accept": "application/json"})
    assert as_json.headers["Content-Disposition"].endswith('.json"')


def test_a_log_without_a_byte_is_empty_and_whole(http: httpx.Client, written: WrittenJob) -> None:
    written.end()

    answer = http.get(written.path)

    assert (answer.json(), answer.headers["Hodei-Log-End"]) == ([], "true")
    assert answer.headers["Hodei-Log-Complete"] == "true"
    assert http.get(f"{written.path}?raw=1").content == b""
    assert http.get(written.path, headers=TEXT).content == b""
    assert http.get(f"{written.path}?tail=5&grep=x").json() == []


def test_a_job_without_an_attempt_has_an_empty_log_that_does_not_end(
    http: httpx.Client, writer: LiveCore
) -> None:
    job_id = writer.submit()

    answer = http.get(f"/api/v1/jobs/{job_id}/logs")

    assert (answer.status_code, answer.json()) == (200, [])
    assert "Hodei-Log-End" not in answer.headers
    assert http.get(f"/api/v1/jobs/{job_id}/logs?attempt=1").status_code == 404


def test_attempts_are_told_apart(serving: RunningPlatform, http: httpx.Client, writer: LiveCore) -> None:
    # given
    job = writer.write_job(retries=1)
    job.write(b"first\n")
    first = job.execution_id
    job.end(7)
    job.begin_attempt()
    job.write(b"second\n")

    # then
    assert texts(http, job) == ["second"]
    assert texts(http, job, "attempt=1") == ["first"]
    assert http.get(f"{job.path}?attempt=3").status_code == 404
    manager = serving.service_url("worker-manager")
    for execution, line in ((first, b"first\n"), (job.execution_id, b"second\n")):
        assert httpx.get(f"{manager}/api/v1/executions/{execution}/logs?raw=1").content == line
    job.end()


def test_a_reader_may_wait_for_the_next_entry(http: httpx.Client, written: WrittenJob) -> None:
    written.write(b"a\n")
    began = time.monotonic()
    assert texts(http, written, "after=1&wait_s=0.3") == []
    assert time.monotonic() - began >= 0.3

    written.write(b"b\n")

    assert texts(http, written, "after=1&wait_s=20") == ["b"]


def test_a_character_that_came_in_two_pieces_is_whole_in_the_text(
    http: httpx.Client, written: WrittenJob
) -> None:
    written.write(("stdout", b"caf\xc3"), ("stderr", b"between\n"))
    written.write(("stdout", b"\xa9\n"))

    assert http.get(written.path, headers=TEXT).content == "cafbetween\né\n".encode()
    assert http.get(f"{written.path}?raw=1").content == b"caf\xc3between\n\xa9\n"


def test_a_log_whose_rest_never_came_says_so(http: httpx.Client, writer: LiveCore) -> None:
    # given
    job = writer.write_job()
    job.write(b"one\n")
    job.end(last_frame=2)

    # when
    writer.sql(
        "UPDATE hodei.executions SET reported_at = reported_at - interval '1 min' WHERE id = :id",
        id=job.execution_id,
    )
    writer.sql("UPDATE sagas SET waiting_until = NULL WHERE state = 'IN_PROGRESS'")
    writer.engine.resume(writer.sagas(job.job_id, "EXECUTION")[0].id)
    writer.drain()

    # then
    shown = http.get(f"/api/v1/jobs/{job.job_id}").json()
    assert shown["log"] == {"entries": 1, "bytes": 4, "complete": False}
    assert shown["error"]["code"] == "ERR_1016"
    assert http.get(job.path).headers["Hodei-Log-Complete"] == "false"
    assert texts(http, job) == ["one"]


def test_a_service_on_another_machine_with_an_empty_disk_reads_the_same(
    servers: Servers, http: httpx.Client, writer: LiveCore, logs_database_url: str, tmp_path: Path
) -> None:
    # given: one read it while it was written, then the folder with the exported files is gone
    job, seen = writer.write_job(), b""
    for number in range(50):
        job.write(b"line %d \xfe\n" % number, ("stderr", b"err %d\n" % number))
        seen = http.get(f"{job.path}?raw=1").content
    job.end()
    shutil.rmtree(writer.platform.settings.log_dir)

    # when
    with RunningPlatform(tmp_path, logs_database_url, servers.redis_url, names=["serve"]) as elsewhere:
        late = httpx.get(f"{elsewhere.url}{job.path}?raw=1").content

    # then
    assert late == seen == b"".join(b"line %d \xfe\nerr %d\n" % (n, n) for n in range(50))


@pytest.fixture(scope="module")
def large(writer: LiveCore) -> Iterator[tuple[WrittenJob, int]]:
    """A log of 64 MiB."""
    job, lines = writer.write_job(), 0
    line = b"x" * 1023 + b"\n"
    for _ in range(256):
        job.write(line * 63, line * 63, line * 63, line * 63)
        lines += 252
    job.end()
    yield job, lines


def memory_bytes(platform: RunningPlatform) -> int:
    status = Path(f"/proc/{platform.processes['serve'].pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


@pytest.mark.parametrize("query", ["raw=1", "raw=1&grep=xx", "limit=10000", "tail=60000", "follow=1"])
def test_a_large_log_is_streamed(
    serving: RunningPlatform, http: httpx.Client, large: tuple[WrittenJob, int], query: str
) -> None:
    job, lines = large
    with http.stream("GET", f"{job.path}?limit=1"):
        before = memory_bytes(serving)
    most, size = 0, 0

    with http.stream("GET", f"{job.path}?{query}", headers={"Accept-Encoding": "identity"}) as answer:
        for number, block in enumerate(answer.iter_raw()):
            size += len(block)
            if number % 50 == 0:
                most = max(most, memory_bytes(serving))

    expected = {"limit=10000": 10_000}.get(query, lines)
    assert size >= min(expected, 60_000) * 1024
    assert most - before < 48 * 1024 * 1024


def test_the_tail_of_a_large_log_does_not_read_its_beginning(
    http: httpx.Client, large: tuple[WrittenJob, int], writer: LiveCore
) -> None:
    job, lines = large
    writer.sql(
        "UPDATE hodei.log_chunks SET data = 'damaged' WHERE execution_id = :id AND seq < 200",
        id=job.execution_id,
    )

    assert [entry["seq"] for entry in http.get(f"{job.path}?tail=1").json()] == [lines]
    assert len(http.get(f"{job.path}?tail=3&grep=xx").json()) == 3
    assert len(http.get(f"{job.path}?after={lines - 5}").json()) == 5
