"""What is printed of a log: every byte once, whatever comes between."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest

from hodei.cli.log_printer import LogPrinter
from hodei.client.shapes import LogEntry

ENTRIES = [LogEntry(seq=seq, text=f"line {seq} " + "x" * (seq % 90)) for seq in range(1, 20_001)]
PRINTED = b"".join(entry.exact + b"\n" for entry in ENTRIES)


@contextmanager
def slow_reader(*, buffering: int, blocking: bool) -> Iterator[tuple[BinaryIO, Callable[[], bytes]]]:
    """A pipe whose reader takes little at a time; what it got, once the pipe is closed."""
    source, target = os.pipe()
    os.set_blocking(target, blocking)
    got = bytearray()

    def read() -> None:
        with os.fdopen(source, "rb", buffering=0) as pipe:
            while block := pipe.read(8192):
                got.extend(block)
                time.sleep(0.0002)

    thread = threading.Thread(target=read)
    thread.start()
    with os.fdopen(target, "wb", buffering=buffering) as file:

        def received() -> bytes:
            file.close()
            thread.join()
            return bytes(got)

        yield file, received


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_pipe_that_takes_little_gets_everything(buffering: int) -> None:
    with slow_reader(buffering=buffering, blocking=False) as (pipe, received):
        printer = LogPrinter(pipe, pipe)

        for entry in ENTRIES:
            printer.show(entry)
        printer.flush()

        assert received() == PRINTED


@pytest.mark.parametrize("buffering", [0, -1])
def test_interrupted_anywhere_it_goes_on_without_loss_or_repeat(buffering: int) -> None:
    # given interrupts all the time, each while something is shown or written
    armed, interrupts = False, 0

    def interrupt(*_: object) -> None:
        nonlocal armed, interrupts
        if armed:
            armed, interrupts = False, interrupts + 1
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
    try:
        with slow_reader(buffering=buffering, blocking=True) as (pipe, received):
            printer = LogPrinter(pipe, pipe)

            # when whoever shows the log goes on at the printer's place each time
            done = False
            while not done:
                try:
                    armed = True
                    for entry in ENTRIES[int(printer.place.partition("-")[2]) :]:
                        printer.show(entry)
                        if entry.seq % 10 == 0:
                            printer.flush()
                    printer.flush()
                    armed, done = False, True
                except KeyboardInterrupt:
                    pass

            # then
            assert received() == PRINTED
            assert interrupts > 20
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_streams_go_to_their_own_files_and_each_line_has_its_time_once(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    with os.fdopen(os.dup(1), "wb") as out, os.fdopen(os.dup(2), "wb") as err:
        printer = LogPrinter(out, err, timestamps=True)

        printer.show(LogEntry(seq=1, at="T1", text="be", partial=True))
        printer.show(LogEntry(seq=2, at="T2", text="oops", stream="stderr"))
        printer.show(LogEntry(seq=3, at="T3", text="gun"))
        printer.show(LogEntry(seq=4, at="T4", text="odd", stream="tomorrow"))
        printer.flush()

    assert capfdbinary.readouterr() == (b"T1 begun\nT4 odd\n", b"T2 oops\n")
    assert printer.place == "1-4"
