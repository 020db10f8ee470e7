"""Jobs that print and exit at once, and what is missing of their logs in the moment in which they have ended."""

from __future__ import annotations

from hodei.client.client import HodeiClient

KINDS: tuple[tuple[str, str, str, int], ...] = (
    ("echo out-{n}", "out-{n}\n", "", 0),
    ("printf out-{n}", "out-{n}", "", 0),
    ("echo out-{n}; echo err-{n} >&2; exit 3", "out-{n}\n", "err-{n}\n", 3),
    ("seq {n} $(({n} + 2000)); printf err-{n} >&2", "", "err-{n}", 0),
)
"""Command, stdout, stderr and exit code; ``seq`` leaves as much as a pipe holds behind, and its stdout is counted."""


def wrong_short_logs(client: HodeiClient, provider: str, count: int, *, at_once: int) -> list[str]:
    """Run so many of them, so many at a time; each is read as soon as its end shows. Empty: nothing was lost or repeated."""
    wrong = []
    for first in range(0, count, at_once):
        numbers = range(first, min(first + at_once, count))
        jobs = [{"name": f"short-{n}", "provider": provider, "command": _kind(n)[0]} for n in numbers]
        for n, made in zip(numbers, client.create_jobs(jobs), strict=True):
            ended = client.wait(made.id)
            found = (*(client.log_bytes(made.id, stream=name).decode() for name in ("stdout", "stderr")),)
            _, stdout, stderr, code = _kind(n)
            if found != (stdout, stderr) or ended.exit_code != code or not ended.log.complete:
                wrong.append(f"{provider} {n} ({made.id}): {ended.exit_code} {ended.log} {found}")
    return wrong


def _kind(number: int) -> tuple[str, str, str, int]:
    command, stdout, stderr, code = (
        word.format(n=number) if isinstance(word, str) else word for word in KINDS[number % len(KINDS)]
    )
    if command.startswith("seq"):
        stdout = "".join(f"{each}\n" for each in range(number, number + 2001))
    return command, stdout, stderr, code
