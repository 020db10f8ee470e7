"""The watchdog notices what overruns, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading

from hodei.services.watchdog import Watchdog


def made(limit_s: float = 10.0) -> tuple[Watchdog, list[str]]:
    calls: list[str] = []
    return Watchdog(limit_s, overrun=lambda: calls.append("overrun")), calls


def test_what_takes_longer_than_the_limit_is_an_overrun() -> None:
    dog, calls = made()
    with dog.watching("a step"):
        dog.tick(9.0)
        assert calls == []
        dog.tick(2.0)
    assert calls == ["overrun"]


def test_what_is_over_is_not_counted_any_more() -> None:
    dog, calls = made()
    with dog.watching("a step"):
        dog.tick(9.0)
    dog.tick(9.0)
    assert calls == []


def test_each_work_has_its_own_time() -> None:
    dog, calls = made()
    dog.begin("one", "a step")
    dog.tick(6.0)
    dog.begin("two", "another step")
    dog.end("one")
    dog.tick(6.0)
    assert calls == []
    dog.tick(5.0)
    assert calls == ["overrun"]


def test_an_end_without_a_beginning_is_nothing() -> None:
    dog, calls = made()
    dog.end("unknown")
    dog.tick(100.0)
    assert calls == []


def test_it_looks_by_itself_once_started() -> None:
    over = threading.Event()
    dog = Watchdog(0.5, overrun=over.set).start()
    try:
        with dog.watching("a step"):
            assert over.wait(10)
    finally:
        dog.stop()


def test_a_process_that_starts_anew_has_the_same_id_and_command() -> None:
    program = (
        "import os, sys, threading; from hodei.services.watchdog import start_anew;"
        "print(os.getpid(), sys.argv[1:], flush=True);"
        "again = os.environ.setdefault('ROUND', '1') == '1'; os.environ['ROUND'] = '2';"
        "again and threading.Thread(target=start_anew).start();"
        "again and threading.Event().wait(30)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, "an argument"], capture_output=True, text=True, timeout=30, check=True
    )
    first, second = answer.stdout.splitlines()
    assert first == second
    assert first.endswith("['an argument']")
