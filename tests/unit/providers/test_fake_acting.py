"""What simulated agents act out."""

from __future__ import annotations

import pytest

from hodei.providers.fake.acting import play


def act(**definition: object) -> tuple[bytes, float, int | None]:
    """All output, all waiting, and the exit code."""
    steps = list(play({"shell": None, "script": None, "argv": None, **definition}))
    return b"".join(step.output for step in steps), sum(step.wait_s for step in steps), steps[-1].exit_code


@pytest.mark.parametrize(
    ("line", "output", "waits_s", "exit_code"),
    [
        ("echo hello", b"hello\n", 0, 0),
        ("echo -n a; echo 'b  c'", b"ab  c\n", 0, 0),
        ("sleep 0.5 && echo late", b"late\n", 0.5, 0),
        ("exit 7", b"", 0, 7),
        ("false && echo never; echo yes", b"yes\n", 0, 0),
        ("false", b"", 0, 1),
        ("echo a\nexit 3\necho never", b"a\n", 0, 3),
        ("make test | tee log", b"make test | tee log\n", 0, 0),
        ("echo $HOME", b"echo $HOME\n", 0, 0),
        ("echo 'unfinished", b"echo 'unfinished\n", 0, 0),
        ("", b"", 0, 0),
    ],
)
def test_a_line_is_acted_out(line: str, output: bytes, waits_s: float, exit_code: int) -> None:
    assert act(shell=line) == (output, waits_s, exit_code)


def test_a_program_with_arguments_is_acted_out() -> None:
    assert act(argv=["echo", "a;b", "c"]) == (b"a;b c\n", 0, 0)
    assert act(argv=["python3", "-c", "print(1)"]) == (b"python3 -c 'print(1)'\n", 0, 0)
