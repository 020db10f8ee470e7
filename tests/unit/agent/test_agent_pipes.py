"""Reading the job's pipes: bursts first, all that is there, and no waking for each line of a busy job."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hodei_agent import pipes as pipes_module
from hodei_agent import spool as spool_module
from hodei_agent.burst import READ_BYTES, Burst
from hodei_agent.intake import Intake
from hodei_agent.pipes import Pipes
from hodei_agent.protocol import STDERR, STDOUT
from hodei_agent.spool import Record

SET_PIPE_SIZE = 1031


class FakeIntake(Intake):
    """Notes what it is fed."""

    def __init__(self) -> None:
        self.ready = True
        self.fed: list[tuple[int, bytes]] = []
        self.lost: list[tuple[int, str]] = []

    def is_ready(self) -> bool:
        return self.ready

    def feed(
        self, stream: int, block: bytes, read_at: float, now: float | None = None, *, busy: bool = False
    ) -> None:
        self.fed.append((stream, block))

    def lose(self, size: int, reason: str) -> None:
        self.lost.append((size, reason))

    def bytes_of(self, stream: int) -> bytes:
        return b"".join(block for each, block in self.fed if each == stream)


class Job:
    """The job's ends."""

    def __init__(self, folder: Path, memory_limit_bytes: int | None = 16 * 1024 * 1024) -> None:
        self.intake = FakeIntake()
        self.pipes = Pipes(self.intake, str(folder), memory_limit_bytes)  # of 16 MiB, 1 is for a burst
        ends = []
        self.writers = {}
        for stream in (STDOUT, STDERR):
            reader, writer = os.pipe()
            fcntl.fcntl(reader, SET_PIPE_SIZE, 1024 * 1024)
            os.set_blocking(reader, False)
            os.set_blocking(writer, False)
            ends.append(reader)
            self.writers[stream] = writer
        self.pipes.open(*ends)

    def write(self, stream: int, data: bytes) -> int:
        return os.write(self.writers[stream], data)

    def write_three_times(self, size: int) -> int:
        """All that finds room, read as far as anything is read; how much it was."""
        written = 0
        for _ in range(3):
            written += self.write(STDOUT, b"x" * size)
            while self.pipes.work():
                pass
        return written

    def work_until_idle(self) -> None:
        self.pipes.work()
        while (due_at := self.pipes.next_at()) is not None and due_at <= time.monotonic():
            self.pipes.work()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    job.pipes.drain()
    for writer in job.writers.values():
        os.close(writer)


def test_a_line_is_fed_at_once_and_of_two_streams_stdout_first(job: Job) -> None:
    job.write(STDERR, b"b\n")
    job.write(STDOUT, b"a\n")

    assert job.pipes.work()

    assert job.intake.fed == [(STDOUT, b"a\n"), (STDERR, b"b\n")]
    assert not job.pipes.work()


@pytest.mark.parametrize("disk", [True, False], ids=["with a disk", "full disk"])
def test_a_burst_is_read_before_any_of_it_is_worked_on(
    job: Job, monkeypatch: pytest.MonkeyPatch, disk: bool
) -> None:
    # given: a burst that is not over yet
    monkeypatch.setattr(pipes_module, "DRAIN_FIRST_S", 3600.0)
    monkeypatch.setattr(pipes_module, "BURST_PAUSE_S", 0.0)
    if not disk:
        monkeypatch.setattr(spool_module.os, "pwrite", no_space)
    job.write(STDOUT, b"x" * 300_000)
    real, fed_before = job.pipes._read_all, []

    def read_all(now: float) -> int:
        if len(fed_before) == 1:
            job.write(STDOUT, b"y" * 100_000)
        fed_before.append(len(job.intake.fed))
        return real(now)

    monkeypatch.setattr(job.pipes, "_read_all", read_all)
    # when
    job.work_until_idle()
    # then: nothing was fed before the last of it had been read
    assert job.intake.bytes_of(STDOUT) == b"x" * 300_000 + b"y" * 100_000
    assert fed_before[:3] == [0, 0, 0]


def no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("disk", [True, False], ids=["with a disk", "full disk"])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_fed_is_what_was_written_in_the_order_of_its_coming(
    job: Job, monkeypatch: pytest.MonkeyPatch, disk: bool, seed: int
) -> None:
    if not disk:
        monkeypatch.setattr(spool_module.os, "pwrite", no_space)
    chance, written = random.Random(seed), []

    def write(stream: int) -> None:
        data = chance.randbytes(chance.choice([1, 100, 5_000, 70_000, 300_000]))
        written.append((stream, data))
        assert job.write(stream, data) == len(data)

    for _ in range(60):
        write(stream := chance.choice([STDOUT, STDERR]))
        if chance.random() < 0.5:
            write(stream)
        job.work_until_idle()

    assert joined(job.intake.fed) == joined(written)


def joined(blocks: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """What comes after another of the same stream is one with it."""
    return [
        (stream, b"".join(data for _, data in group))
        for stream, group in itertools.groupby(blocks, lambda each: each[0])
    ]


def test_a_job_that_makes_packets_of_what_it_writes_loses_none(job: Job) -> None:
    """pipe(2), O_DIRECT: a read ends with the packet, and what it has no room for is gone."""
    written = b"".join(b"%09d\n" % number for number in range(65_000))
    job.write(STDOUT, written[:70_000])
    flags = fcntl.fcntl(job.writers[STDOUT], fcntl.F_GETFL)
    fcntl.fcntl(job.writers[STDOUT], fcntl.F_SETFL, flags | os.O_DIRECT)
    job.write(STDOUT, written[70_000:])

    while job.pipes.work():
        pass

    assert job.intake.bytes_of(STDOUT) == written


def test_what_waits_is_not_overwritten_by_what_is_read_meanwhile(job: Job) -> None:
    # given bursts that nobody takes, up to the limit
    job.intake.ready, written = False, b""
    for number in range(8):
        written += (data := b"%d" % number * 100_000)
        job.write(STDOUT, data)
        job.work_until_idle()
    # when one is taken, and others come
    job.intake.ready = True
    job.pipes.work()
    job.intake.ready = False
    for number in range(8, 10):
        written += (data := b"%d" % number * 100_000)
        job.write(STDOUT, data)
        job.work_until_idle()
    job.intake.ready = True
    while job.pipes.next_at() is not None:
        job.pipes.work()
    # then
    assert job.intake.bytes_of(STDOUT) == written


def test_a_burst_waits_in_a_file_without_a_name_that_is_given_back(tmp_path: Path) -> None:
    # given
    burst = Burst(str(tmp_path))
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    fcntl.fcntl(reader, SET_PIPE_SIZE, 1024 * 1024)
    parts = [b"%d" % number * READ_BYTES for number in range(7)]
    for part in parts:
        os.write(writer, part)
    # when
    stored = [burst.put(reader) for _ in parts]
    # then
    assert all(isinstance(one, Record) for one in stored)
    assert files_in(tmp_path) == [7 * READ_BYTES]
    assert os.listdir(tmp_path) == []
    assert [burst.take(one) for one in stored] == parts
    assert files_in(tmp_path) == []
    with pytest.raises(BlockingIOError):
        burst.put(reader)
    os.close(writer)
    assert burst.put(reader) == b""
    os.close(reader)


def files_in(folder: Path) -> list[int]:
    """The sizes of the files in the folder that this process has open."""
    sizes = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith(f"{folder}/"):
                sizes.append(os.fstat(int(name)).st_size)
        except OSError:
            continue
    return sizes


def test_what_the_disk_does_not_give_back_is_said(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # given
    job.intake.ready = False
    job.write(STDOUT, b"x" * 500_000)
    while job.pipes.work():
        pass
    # when
    job.intake.ready = True
    with monkeypatch.context() as broken:
        broken.setattr(spool_module.os, "pread", no_answer)
        job.work_until_idle()
    job.write(STDOUT, b"after\n")
    job.work_until_idle()
    # then
    fed = job.intake.bytes_of(STDOUT)
    assert fed.endswith(b"after\n")
    lost = sum(size for size, _ in job.intake.lost)
    assert lost > 0 and lost + len(fed) == 500_006
    assert "Input/output error" in job.intake.lost[0][1]
    assert files_in(tmp_path) == []


def no_answer(*_: object) -> NoReturn:
    raise OSError(errno.EIO, "Input/output error")


def test_with_a_full_disk_no_more_than_1_mib_waits_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: no limit of memory, so 32 MiB of a burst
    monkeypatch.setattr(spool_module.os, "pwrite", no_space)
    job = Job(tmp_path, memory_limit_bytes=None)
    job.intake.ready = False
    # when
    written = job.write_three_times(700_000)
    # then
    assert job.pipes.is_full
    # and nothing is lost
    job.intake.ready = True
    job.pipes.drain()
    assert len(job.intake.bytes_of(STDOUT)) == written > 1024 * 1024
    for writer in job.writers.values():
        os.close(writer)


def test_nothing_more_is_read_when_nobody_takes_what_was(job: Job) -> None:
    # given
    job.intake.ready = False
    written = job.write_three_times(900_000)
    # then: the job would have to wait
    assert job.pipes.is_full
    assert job.pipes.wanted() == {}
    assert job.intake.fed == []
    # when
    job.intake.ready = True
    deadline = time.monotonic() + 10
    while len(job.intake.bytes_of(STDOUT)) < written:
        assert time.monotonic() < deadline
        job.work_until_idle()
    # then
    assert not job.pipes.is_full


def test_a_busy_pipe_is_left_alone_for_5_ms_and_the_other_one_is_not(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: however slow the machine is
    monkeypatch.setattr(pipes_module, "BUSY_S", 3600.0)
    for _ in range(2):
        job.write(STDOUT, b"line\n")
        job.pipes.work()
    # then
    assert set(job.pipes.wanted().values()) == {STDERR}
    due_at = job.pipes.next_at()
    assert due_at is not None and due_at <= time.monotonic() + pipes_module.HOLD_OFF_S
    # when: a line on the other one makes both be read, what was there before first
    job.write(STDOUT, b"before\n")
    job.write(STDERR, b"then\n")
    job.pipes.work()
    # then
    assert job.intake.fed[-2:] == [(STDOUT, b"before\n"), (STDERR, b"then\n")]


def test_what_is_in_the_pipes_at_the_end_is_fed_also_when_nobody_is_ready(job: Job) -> None:
    job.write(STDOUT, b"x" * 1_000_000)
    job.write(STDERR, b"y" * 1_000_000)
    job.intake.ready = False
    job.pipes.work()

    job.pipes.drain()

    assert job.intake.bytes_of(STDOUT) == b"x" * 1_000_000
    assert job.intake.bytes_of(STDERR) == b"y" * 1_000_000


def test_what_is_read_while_muted_is_thrown_away(job: Job) -> None:
    job.pipes.is_muted = True
    job.write(STDOUT, b"x" * 500_000)

    while job.pipes.work():
        pass

    assert job.intake.fed == []
    assert job.write(STDOUT, b"x" * 1_000_000) == 1_000_000
