"""The few commands that a simulated agent acts out. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

_ACTED = {"echo", "sleep", "exit", "true", "false", ":"}
_JOINTS = {";", "&&", "\n"}


class Step(NamedTuple):
    """One thing to act out: print, wait, or end with a code."""

    output: bytes = b""
    wait_s: float = 0.0
    exit_code: int | None = None


def play(definition: dict[str, Any]) -> Iterator[Step]:
    """The steps of a definition as the inbox brings it; the last has the exit code.

    ``echo``, ``sleep``, ``exit``, ``true`` and ``false``, joined by ``&&`` and ``;`` or in lines. Anything
    else is printed as it is.
    """
    if definition.get("argv"):
        words = [str(word) for word in definition["argv"]]
        commands = [("", words)] if _can_act(words) else None
        text = shlex.join(words)
    else:
        text = definition.get("script") or definition.get("shell") or ""
        commands = _split(text)
    if commands is None:
        yield Step(output=f"{text}\n".encode(), exit_code=0)
        return
    code = 0
    for joint, words in commands:
        if joint == "&&" and code != 0:
            continue
        if words[0] == "exit":
            yield Step(exit_code=int(words[1]) & 255 if len(words) > 1 else code)
            return
        code = 1 if words[0] == "false" else 0
        if words[0] == "echo":
            yield Step(output=_echo(words[1:]))
        elif words[0] == "sleep":
            yield Step(wait_s=float(words[1]))
    yield Step(exit_code=code)


def _echo(words: list[str]) -> bytes:
    if words[:1] == ["-n"]:
        return " ".join(words[1:]).encode()
    return f"{' '.join(words)}\n".encode()


def _split(text: str) -> list[tuple[str, list[str]]] | None:
    """The commands, each with what joins it to the one before; None when there is one that cannot be acted
    out."""
    commands: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            tokens = list(lexer)
        except ValueError:
            return None
        joint, words = ";", []
        for token in [*tokens, ";"]:
            if token not in _JOINTS:
                words.append(token)
                continue
            if words:
                if not _can_act(words):
                    return None
                commands.append((joint, words))
            joint, words = token, []
    return commands


def _can_act(words: list[str]) -> bool:
    if words[0] not in _ACTED or any(mark in word for word in words for mark in "|&<>()`$"):
        return False
    if words[0] in {"sleep", "exit"} and len(words) > 1:
        return words[1].replace(".", "", words[0] == "sleep").isdigit()
    return words[0] != "sleep"
