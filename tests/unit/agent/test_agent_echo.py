"""The copy on the agent's own stdout and stderr: whole lines, all of them, and nobody waits for its reader."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hodei_agent import echo as echo_module
from hodei_agent.echo import Echo
from hodei_agent.protocol import STDOUT


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other end of what the echo writes to; a pipe that a few lines fill."""
    reader, writer = os.pipe()
    real = os.write
    monkeypatch.setattr(
        os, "write", lambda descriptor, data: real(writer if descriptor == 1 else descriptor, data)
    )
    yield reader
    os.close(reader)
    os.close(writer)


def read(reader: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += os.read(reader, size - len(found))
    return found


def test_what_is_not_read_yet_waits_on_disk_and_the_writer_does_not(tmp_path: Path, reader: int) -> None:
    # given: more than the pipe and the memory hold, and nobody who reads
    echo, blocks = Echo(str(tmp_path)), [b"%07d\n" % number * 8000 for number in range(100)]
    for block in blocks:
        echo.put(STDOUT, block)
    echo.finish()
    # when
    found = read(reader, sum(map(len, blocks)))
    # then
    assert found == b"".join(blocks)
    assert echo.wait_written(10.0)
    assert list(tmp_path.iterdir()) == []
    echo.end()


def test_at_its_limit_it_asks_to_wait_for_a_slow_reader_but_not_for_one_that_is_stuck(
    tmp_path: Path, reader: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo_module, "LIMIT_BYTES", 200_000)
    monkeypatch.setattr(echo_module, "STUCK_AFTER_S", 3600.0)
    echo = Echo(str(tmp_path))
    assert echo.is_ready()
    for _ in range(5):
        echo.put(STDOUT, b"x" * 99_999 + b"\n")
    assert not echo.is_ready()

    monkeypatch.setattr(echo_module, "STUCK_AFTER_S", 0.0)

    assert echo.is_ready()
    assert not echo.wait_written(60.0)
    echo.put(STDOUT, b"left out\n")
    found = read(reader, 500_000)
    assert found == (b"x" * 99_999 + b"\n") * 5
    monkeypatch.setattr(echo_module, "STUCK_AFTER_S", 3600.0)
    assert echo.wait_written(10.0)
    echo.end()


def test_while_the_job_prints_the_copy_gives_way_and_all_of_it_comes_at_the_end(
    tmp_path: Path, reader: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a job that never pauses, and a copy that has had its share for the next hours
    monkeypatch.setattr(echo_module, "GIVE_WAY_S", 3600.0)
    monkeypatch.setattr(echo_module, "PACE_BYTES_PER_S", 0.001)
    echo = Echo(str(tmp_path))
    echo.put(STDOUT, b"first\n")
    assert read(reader, 6) == b"first\n"
    # when
    echo.put(STDOUT, b"later\n")
    # then
    assert not echo.wait_written(0.3)
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    # when
    echo.finish()
    # then
    assert echo.wait_written(10.0)
    assert os.read(reader, 100) == b"later\n"
    echo.end()


@pytest.mark.parametrize(("name", "value"), [("GIVE_WAY_BYTES", 0), ("GIVE_WAY_S", 0.01)])
def test_a_copy_that_is_too_far_behind_or_whose_job_pauses_gives_way_no_more(
    tmp_path: Path, reader: int, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setattr(echo_module, "GIVE_WAY_S", 3600.0)
    monkeypatch.setattr(echo_module, "PACE_BYTES_PER_S", 0.001)
    monkeypatch.setattr(echo_module, name, value)
    echo = Echo(str(tmp_path))

    for number in range(5):
        echo.put(STDOUT, b"line %d\n" % number)

    assert echo.wait_written(10.0)
    assert read(reader, 35) == b"".join(b"line %d\n" % number for number in range(5))
    echo.end()


def test_on_a_full_disk_the_copy_is_whole_for_as_long_as_it_only_gives_way(
    tmp_path: Path, reader: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo_module, "MEMORY_BYTES", 10)
    echo = Echo(str(tmp_path / "nowhere"))

    for number in range(100):
        echo.put(STDOUT, b"line %2d\n" % number)
    echo.finish()

    assert read(reader, 800) == b"".join(b"line %2d\n" % number for number in range(100))
    assert echo.wait_written(10.0)
    echo.end()


def test_what_the_disk_does_not_give_back_is_left_out_of_the_copy_and_no_more(
    tmp_path: Path, reader: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: all of it waits on disk
    monkeypatch.setattr(echo_module, "MEMORY_BYTES", 0)
    real, failures = os.pread, iter([OSError(errno.EIO, "Input/output error")])

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        for failure in failures:
            raise failure
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    echo = Echo(str(tmp_path))
    # when
    for line in (b"lost\n", b"kept\n"):
        echo.put(STDOUT, line)
    echo.finish()
    # then
    assert echo.wait_written(10.0)
    assert os.read(reader, 100) == b"kept\n"
    echo.end()


def test_its_thread_ends_when_all_is_written(tmp_path: Path, reader: int) -> None:
    before = set(threading.enumerate())
    echo = Echo(str(tmp_path))
    (thread,) = set(threading.enumerate()) - before

    echo.put(STDOUT, b"line\n")
    echo.end()
    thread.join(10.0)

    assert not thread.is_alive()
    assert read(reader, 5) == b"line\n"
