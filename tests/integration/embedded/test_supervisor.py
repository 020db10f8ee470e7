"""The supervisor, with real processes."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from hodei.embedded.supervisor import Process, Supervisor

STUBBORN = """
trap '' TERM INT HUP
sh -c 'trap "" TERM; echo grandchild $$; while :; do sleep 1; done' &
echo child $$
wait
"""
BOTH_UP = r"child \d+\n.*child \d+\n"


def shell(name: str, line: str, *, restart: bool = True) -> Process:
    return Process(name=name, argv=["sh", "-c", line], env={"PATH": os.environ["PATH"]}, restart=restart)


class Said(io.StringIO):
    """Does something as soon as a text was said."""

    def __init__(self, text: str, then: Callable[[], None]) -> None:
        super().__init__()
        self._text, self._then, self._done = text, then, False

    def write(self, text: str) -> int:
        written = super().write(text)
        if not self._done and re.search(self._text, self.getvalue(), re.DOTALL):
            self._done = True
            self._then()
        return written


def run(
    *processes: Process,
    until: str = "(?!)",
    then: Callable[[Supervisor], None] | None = None,
    **options: float,
):  # type: ignore[no-untyped-def]
    supervisor: Supervisor
    output = Said(until, lambda: then(supervisor) if then else supervisor.request_stop())
    supervisor = Supervisor(processes, output=output, **options)  # type: ignore[arg-type]
    return supervisor.run(), output.getvalue()


def test_output_is_shown_under_its_name_with_the_last_line_though_it_has_no_end() -> None:
    code, said = run(
        shell("web", "echo one; echo two >&2; printf three", restart=False), shell("queue", "sleep 60")
    )

    assert code == 0
    assert said.startswith("web   | one\nweb   | two\nweb   | three\n")


def test_one_without_restart_ends_everything_with_its_exit_code() -> None:
    code, said = run(shell("web", "exit 7", restart=False), shell("queue", "sleep 60"))

    assert code == 7
    assert "hodei | *** web ended with exit code 7: stopping everything ***" in said


def test_one_ended_by_a_signal_gives_the_shells_code() -> None:
    code, said = run(shell("web", "kill -SEGV $$", restart=False))

    assert code == 128 + signal.SIGSEGV
    assert "web was ended by SIGSEGV" in said


def test_one_that_dies_is_started_again_with_growing_pauses() -> None:
    code, said = run(shell("web", "echo up; exit 3"), until="up.*up.*up")

    assert code == 0
    pauses = re.findall(r"web ended with exit code 3: starting it again in (\d\.\d) s", said)
    assert pauses[:2] == ["0.5", "1.0"]


def test_a_program_that_does_not_exist_is_said() -> None:
    code, said = run(Process(name="web", argv=["/no/such/program"], env={}, restart=False))

    assert code == 1
    assert "web   | /no/such/program cannot be started: No such file or directory" in said


def test_stubborn_children_and_grandchildren_are_gone_after_the_grace(gone: Callable[..., None]) -> None:
    asked: list[float] = []

    def stop(supervisor: Supervisor) -> None:
        asked.append(time.monotonic())
        supervisor.request_stop()

    code, said = run(shell("a", STUBBORN), shell("b", "exec sleep 60"), until=BOTH_UP, then=stop, grace_s=0.5)

    assert code == 0
    assert time.monotonic() - asked[0] < 2
    pids = [int(pid) for pid in re.findall(r"child (\d+)", said)]
    assert len(pids) == 2
    gone(*pids)


def test_the_default_grace_leaves_time_to_end_within_five_seconds() -> None:
    from hodei.embedded import supervisor

    assert supervisor.GRACE_S + supervisor.LAST_WORDS_S < 5


def test_a_second_ctrl_c_kills_at_once() -> None:
    def press_twice(_: Supervisor) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    began = time.monotonic()
    code, _ = run(shell("a", STUBBORN), until=BOTH_UP, then=press_twice, grace_s=30)

    assert code == 0
    assert time.monotonic() - began < 5


def test_what_was_revived_is_said() -> None:
    revived = iter([["Redis"]])
    output = Said("Redis had died", lambda: supervisor.request_stop())
    supervisor = Supervisor([shell("a", "sleep 60")], output=output, tick=lambda: next(revived, []))

    assert supervisor.run() == 0
    assert "hodei | *** Redis had died and was started again ***" in output.getvalue()


def test_a_closed_terminal_stops_everything() -> None:
    output = io.StringIO()
    supervisor = Supervisor([shell("a", "while :; do echo a; sleep 0.05; done")], output=output)
    output.close()

    assert supervisor.run() == 0


def test_a_killed_supervisor_leaves_nothing(gone: Callable[..., None]) -> None:
    program = """
import os
from hodei.embedded.supervisor import Process, Supervisor

line = "trap '' TERM; echo child $$; while :; do sleep 1; done"
Supervisor([Process(name="a", argv=["sh", "-c", line], env=dict(os.environ))]).run()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        child = 0
        while not child:
            found = re.search(r"child (\d+)", process.stdout.readline())
            child = int(found.group(1)) if found else 0
        process.kill()
    gone(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_everything_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    code, _ = run(
        shell("a", "echo up; exec sleep 60"), until="up", then=lambda _: os.kill(os.getpid(), number)
    )

    assert code == 0
    assert signal.getsignal(number) == before
