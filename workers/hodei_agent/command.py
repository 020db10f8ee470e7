"""What is executed for a job: a shell line, a script by its `#!` line, or a program with its arguments."""

from __future__ import annotations

import os

from hodei_agent.definition import Definition
from hodei_agent.errors import BadDefinition
from hodei_agent.job_environment import encode
from hodei_agent.registration import find_program


def build(definition: Definition, script_file: str, path: str) -> list[bytes]:
    """The argument vector; writes the script to `script_file` if there is one. May raise OSError."""
    args = [encode(argument) for argument in definition.args]
    if definition.argv is not None:
        return [encode(argument) for argument in definition.argv] + args
    if definition.shell is not None:
        shell = _shell(path)
        return [shell, b"-c", encode(definition.shell)] + ([shell, *args] if args else [])
    if definition.script is None:
        raise BadDefinition("There is nothing to run.")
    script = encode(definition.script)
    descriptor = os.open(script_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
    with open(descriptor, "wb") as file:
        file.write(script)
    return [*(interpreter(script) or [_shell(path)]), os.fsencode(script_file), *args]


def interpreter(script: bytes) -> list[bytes]:
    """The program of the script's `#!` line and its one argument, as the kernel reads it; empty without
    such a line.

    The kernel is not asked itself: it refuses a script in a folder that is mounted noexec, as /tmp often is.
    """
    if not script.startswith(b"#!"):
        return []
    line = script[2:].partition(b"\n")[0].strip(b" \t")
    program, _, argument = line.replace(b"\t", b" ").partition(b" ")
    argument = argument.strip(b" ")
    if not program:
        return []
    return [program, argument] if argument else [program]


def _shell(path: str) -> bytes:
    return encode(find_program("bash", path) or find_program("sh", path) or "/bin/sh")
