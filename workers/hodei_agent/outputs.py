"""What a job hands on: the file that `$HODEI_OUTPUT` names, read when nothing of the job is left.

A line is `KEY=VALUE`. A value of many lines begins with `KEY<<WORD` and ends before the line that is WORD. Of a key that comes
twice the last value counts; empty lines count for nothing.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

LIMIT_BYTES = 64 * 1024
_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,99})=(.*)", re.DOTALL)
_HEREDOC = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,99})<<(\S+)")


class Outputs(NamedTuple):
    """What could be read; `problem` is a sentence for a person about what could not."""

    values: dict[str, str]
    problem: str | None = None


def create(path: str) -> None:
    """An empty file for the job to write to. Raises OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def read(path: str) -> Outputs:
    """What the job left there. Never raises, never waits, follows no link, reads no more than may be."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Outputs({})
    except OSError as error:
        return Outputs({}, f"The file of its outputs could not be read: {error.strerror}.")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Outputs({}, "What $HODEI_OUTPUT names is not a file any more.")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        return Outputs({}, f"The file of its outputs could not be read: {error.strerror}.")
    finally:
        os.close(descriptor)
    if len(data) > LIMIT_BYTES:
        return Outputs({}, f"Its outputs are more than {LIMIT_BYTES} bytes, so none were taken.")
    return parse(data.decode("utf-8", "replace"))


def parse(text: str) -> Outputs:
    """The values, without the lines that cannot be read: the first of those is the problem."""
    values: dict[str, str] = {}
    problem: str | None = None
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        line, at = lines[number].rstrip("\r"), number + 1
        number += 1
        pair, heredoc = _PAIR.fullmatch(line), _HEREDOC.fullmatch(line)
        if heredoc is not None:
            end = _end(lines, number, heredoc.group(2))
            if end is None:
                problem = problem or f"Line {at} of its outputs has no line {heredoc.group(2)} that ends it."
                break
            key, value = heredoc.group(1), "\n".join(lines[number:end])
            number = end + 1
        elif pair is not None:
            key, value = pair.group(1), pair.group(2)
        else:
            if line.strip():
                problem = problem or f"Line {at} of its outputs is not KEY=VALUE."
            continue
        if "\0" in value:
            problem = problem or f"The output {key} has a NUL character in it."
        else:
            values[key] = value
    return Outputs(values, problem)


def _end(lines: list[str], start: int, word: str) -> int | None:
    return next((n for n in range(start, len(lines)) if lines[n].rstrip("\r") == word), None)
