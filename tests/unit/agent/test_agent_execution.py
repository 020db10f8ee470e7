"""What is held back of a job's output for its rest, when the agent comes to it late."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hodei_agent import definition, frames, pipes
from hodei_agent.echo import Echo
from hodei_agent.execution import Execution
from hodei_agent.frames import Segment
from hodei_agent.intake import Intake
from hodei_agent.job_environment import Folders
from hodei_agent.outbox import Outbox
from hodei_agent.process_tree import Tree
from hodei_agent.protocol import STDERR, STDOUT
from hodei_agent.sender import Sender
from hodei_agent.spawn import Child

SET_PIPE_SIZE = 1031
SECRETS = {"TOKEN": "sesame-open"}


class NoEcho(Echo):
    """Has no thread and writes nothing."""

    def __init__(self) -> None:
        self._rest = {}
        self._changed = threading.Condition()
        self._unwritten_bytes = 0

    def _enqueue(self, stream: int, data: bytes) -> None:
        pass


class Slow(Intake):
    """Takes as many blocks as it is told to."""

    takes = 10**9

    def is_ready(self) -> bool:
        return self.takes > 0

    def feed(
        self, stream: int, block: bytes, read_at: float, now: float | None = None, *, busy: bool = False
    ) -> None:
        self.takes -= 1
        super().feed(stream, block, read_at, now, busy=busy)


class Running:
    """An execution whose job is this test, on a clock that can be put forward."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._late_s = 0.0
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + self._late_s)
        monkeypatch.setattr("hodei_agent.execution.memory_limit_bytes", lambda: 16 * 1024 * 1024)
        self.box = Outbox(str(folder), 10**9)
        self.intake = Slow(self.box, NoEcho(), 10**9, secrets=SECRETS)
        job = definition.read({"execution_id": "e-1", "fence": 1, "secrets": SECRETS})
        sender = Sender.__new__(Sender)
        tree = Tree("e-1", subreaper=False)
        self.execution = Execution(job, sender, self.intake, tree, _no_folders, str(folder), "/bin")
        self.writers = {}
        ends = []
        for stream in (STDOUT, STDERR):
            reader, self.writers[stream] = os.pipe()
            fcntl.fcntl(reader, SET_PIPE_SIZE, 1024 * 1024)
            os.set_blocking(reader, False)
            ends.append(reader)
        self.execution._child = Child(os.getpid(), *ends)
        self.execution._output.open(*ends)

    def write(self, stream: int, data: bytes) -> None:
        assert os.write(self.writers[stream], data) == len(data)

    def be_late(self, seconds: float) -> None:
        self._late_s += seconds

    def take_late(self, *turns: int) -> None:
        """Turn after turn, long after what waits was read: so many blocks of it are taken."""
        for takes in turns:
            self.be_late(0.2)
            self.intake.takes = takes
            self.work_until_idle()

    def work_until_idle(self) -> None:
        for _ in range(1000):
            due_at = self.execution.next_at()
            if due_at is None or due_at > time.monotonic():
                return
            self.execution.tick()
        raise AssertionError("it never sleeps")

    def sent(self, stream: int) -> list[bytes]:
        self.execution._output.drain()
        self.intake.finish(time.monotonic())
        self.box.end()
        batches = [batch for taken in iter(lambda: self.box.take(10**7), []) for batch in taken]
        segments: list[Segment] = [each for batch in batches for each in frames.segments_in(batch.plain)]
        return [segment.data for segment in segments if segment.stream == stream]


def _no_folders() -> Folders:
    raise AssertionError("no job is started")


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    running = Running(tmp_path, monkeypatch)
    yield running
    for writer in running.writers.values():
        os.close(writer)


def test_what_came_while_the_agent_was_kept_from_running_is_read_before_a_part_is_let_go(
    running: Running,
) -> None:
    # given
    running.write(STDOUT, b"<sesa")
    running.execution.readable()
    # when
    running.be_late(0.2)
    running.write(STDOUT, b"me-open>\n")
    running.work_until_idle()
    # then
    assert running.sent(STDOUT) == [b"<***>\n"]


def test_what_waits_for_its_turn_is_no_pause_of_the_job(running: Running) -> None:
    # given: two reads, of which the platform's pace allows for one
    running.intake.takes = 0
    running.write(STDOUT, b"<sesa")
    running.execution.readable()
    running.write(STDOUT, b"me-open>\n")
    running.execution.readable()
    # when
    running.take_late(1, 10**9)
    # then
    assert running.sent(STDOUT) == [b"<***>\n"]


def test_what_a_full_agent_has_not_read_yet_is_no_pause_of_the_job(running: Running) -> None:
    # given: as much as may wait, and the rest of a line in the pipe
    running.intake.takes = 0
    running.write(STDOUT, b"<sesa")
    running.execution.readable()
    while not running.execution._output.is_full:
        running.write(STDERR, b"x" * 60_000)
        running.execution.readable()
    running.write(STDOUT, b"me-open>\n")
    # when: all but the last of what waits is taken
    running.take_late(3, 10**9)
    # then
    assert running.sent(STDOUT) == [b"<***>\n"]


def test_a_part_of_a_line_is_let_go_though_the_other_stream_is_behind(running: Running) -> None:
    # given
    running.write(STDOUT, b"ready? ")
    running.execution.readable()
    # when: of the other one comes more than is taken
    running.intake.takes = 0
    running.write(STDERR, b"x" * 60_000)
    running.execution.readable()
    running.be_late(0.2)
    running.work_until_idle()
    # then
    running.intake.takes = 10**9
    running.write(STDOUT, b"yes\n")
    assert running.sent(STDOUT) == [b"ready? ", b"yes\n"]


def test_an_agent_whose_output_nobody_takes_sleeps(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    # given: reads so small that the pipe is left alone for a moment after each
    monkeypatch.setattr(pipes, "BUSY_S", 3600.0)
    running.intake.takes = 0
    running.write(STDOUT, b"<sesa")
    running.execution.readable()
    while not running.execution._output.is_full:
        running.write(STDERR, b"x" * 60_000)
        running.execution.readable()
    # when
    running.be_late(1.0)
    running.execution.tick()
    # then
    due_at = running.execution.next_at()
    assert due_at is not None and due_at > time.monotonic()
