"""What people type, turned into what the API takes. A mistake is an InvalidInput that names the part."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hodei.errors import InvalidInput

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NEXT_VARIABLE = re.compile(r",(?=[A-Za-z_][A-Za-z0-9_]*=)")
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.IGNORECASE)
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
MEMORY = re.compile(r"\d+(\.\d+)?\s*([kmgt]i?)?b?", re.IGNORECASE)
MAX_BYTES = 1024**2
"""As much as the server takes."""


def environment(values: Iterable[str]) -> dict[str, str]:
    """``A=1,B=2`` as a dictionary; of a name that comes twice the last value counts.

    A comma separates only where a name and ``=`` follow, so values may contain commas and ``=``.
    """
    variables: dict[str, str] = {}
    for value in values:
        for part in NEXT_VARIABLE.split(value):
            name, separator, content = part.partition("=")
            if not separator:
                raise InvalidInput(f"--env {part!r} has no '=': write it as NAME=VALUE.", field="--env")
            if not VARIABLE.fullmatch(name):
                raise InvalidInput(
                    f"--env {part!r}: {name!r} is not a name (letters, digits and _, no digit first).",
                    field="--env",
                )
            if "\0" in content:
                raise InvalidInput(f"--env {name}: a value cannot contain a NUL character.", field="--env")
            variables[name] = content
    return variables


def secrets(names: Iterable[str], source: Mapping[str, str]) -> dict[str, str]:
    """The values of the named variables of this shell."""
    found = {}
    for name in names:
        if "=" in name:
            raise InvalidInput(
                "--secret-env takes a name alone; the value is read from this shell's environment, "
                f"so that it is in no history: export {name.partition('=')[0]} first.",
                field="--secret-env",
            )
        if name not in source:
            raise InvalidInput(
                f"--secret-env {name}: there is no such variable in this shell; export {name} first.",
                field="--secret-env",
            )
        found[name] = source[name]
    return found


def labels(values: Iterable[str], option: str = "--label") -> dict[str, str]:
    """``K=V`` as a dictionary."""
    found = {}
    for value in values:
        key, separator, content = value.partition("=")
        if not separator or not key.strip():
            raise InvalidInput(f"{option} {value!r}: write it as KEY=VALUE.", field=option)
        found[key.strip()] = content
    return found


def arguments(value: str | None) -> str | None:
    """What a shell could split; the server splits it."""
    try:
        shlex.split(value or "")
    except ValueError as error:
        raise InvalidInput(
            f"--args {value!r} cannot be split as a shell would ({str(error).lower()}): close the quote, or escape it.",
            field="--args",
        ) from None
    return value


def one_of(value: str | None, known: Sequence[str], option: str) -> str | None:
    """One of these words, in capitals however it was typed."""
    if value is None:
        return None
    if value.upper() not in known:
        raise InvalidInput(f"{option} {value!r} is none of {', '.join(known)}.", field=option)
    return value.upper()


def duration_s(value: str | None, option: str, *, zero: bool = False) -> float | None:
    """``30``, ``30s``, ``5m`` or ``1h30m`` in seconds. ``zero`` allows 0."""
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        parts = DURATION_PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise InvalidInput(
                f"{option} {value!r} is not a duration such as 30, 30s, 5m or 1h30m."
            ) from None
        seconds = sum(float(number) * SECONDS[unit.lower()] for number, unit in parts)
    if not 0 <= seconds < float("inf") or (seconds == 0 and not zero):
        raise InvalidInput(f"{option} {value!r} must be {'0 or more' if zero else 'more than 0'} seconds.")
    return seconds


def memory(value: str | None) -> str | None:
    """A size as the API takes it; the server says how much it is."""
    if value is not None and not MEMORY.fullmatch(value.strip()):
        raise InvalidInput(f"--memory {value!r} is not a size such as 512m or 1Gi.", field="--memory")
    return value.strip() if value is not None else None


def cpu(value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise InvalidInput(f"--cpu {value:g} must be more than 0 cores, such as 0.5.", field="--cpu")
    return value


def script(file: str | None) -> str | None:
    """The text of a script file; ``-`` is stdin. A file's lines end with ``\\n``, however they do in it."""
    if file is None:
        return None
    try:
        text = whole(file, f"--script {file}", "--script").decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"--script {file} is not text in UTF-8.", field="--script") from None
    if not text.strip():
        raise InvalidInput(f"--script {file} is empty.", field="--script")
    return text if file == "-" else text.replace("\r\n", "\n").replace("\r", "\n")


def whole(file: str, named: str, option: str) -> bytes:
    """What is in a file, ``-`` being stdin. Raises InvalidInput that begins with ``named``, for one without an end too."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{named} cannot be read: {error.strerror}.", field=option) from None
    if len(data) > MAX_BYTES:
        raise InvalidInput(
            f"{named} is larger than the {MAX_BYTES} bytes that the server takes.", field=option
        )
    return data


def since(value: str | None, now: datetime, option: str = "--since") -> str | None:
    """A time (RFC 3339; UTC when it says no zone) as such, or how long ago (``5m``) in seconds, as the API takes them."""
    if value is None:
        return None
    try:
        given = datetime.fromisoformat(value)
    except ValueError:
        try:
            ago_s = duration_s(value, option) or 0.0
            now - timedelta(seconds=ago_s)
        except (InvalidInput, OverflowError):
            raise InvalidInput(
                f"{option} {value!r} is neither a time such as 2026-05-01T12:00:00Z nor a duration such as 5m."
            ) from None
        return f"{ago_s:.3f}s"
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
