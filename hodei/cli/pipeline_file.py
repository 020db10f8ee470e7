"""A pipeline's YAML file: read as it is written, with the line of everything in it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hodei.cli import inputs
from hodei.errors import InvalidInput

if TYPE_CHECKING:
    from yaml import MarkedYAMLError
    from yaml.nodes import Node

MAX_NODES = 100_000
"""Aliases followed: a hundred for each of the thousand jobs that a pipeline may have."""
MAX_DEPTH = 50
MAX_NUMBER_CHARACTERS = 100
TEXTS = (
    re.compile(r"(name|description)"),
    re.compile(r"params\.[^.]+\.(default|description)"),
    re.compile(r"jobs\.\d+\.(key|name|command|script|image|provider|memory|needs|args|when)(\.\d+)?"),
    re.compile(r"jobs\.\d+\.(env|secret_env|labels|required_labels)\.[^.]+"),
    re.compile(r"jobs\.\d+\.matrix\..+"),
)
"""Where a text is meant whatever it looks like: 3.10 is no number there, and no is no answer."""
TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep, its aliases followed."
NULLS = ("", "~", "null", "Null", "NULL")


class PipelineFile:
    """What a file says, and where. ``document`` is what the server is sent."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._lines: dict[str, int] = {}
        root = _compose(name, text)
        if root is None or root.id != "mapping":
            raise InvalidInput(f"{name}:1: a pipeline is a mapping that has a name and jobs.")
        self.document: dict[str, Any] = self._read(root, "")
        self._take_secrets()

    def line_of(self, field: str | None) -> int:
        """The line where this part is, or the nearest part that is there: ``jobs.2.needs.0``."""
        parts = field.split(".") if field else []
        while parts and ".".join(parts) not in self._lines:
            parts.pop()
        return self._lines.get(".".join(parts), 1)

    def refused(self, message: str, field: str | None) -> InvalidInput:
        """The mistake, as compilers show them."""
        where = f" {field}:" if field and field not in message else ""
        return InvalidInput(f"{self.name}:{self.line_of(field)}:{where} {message}", field=field)

    def _read(self, node: Node, path: str) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if node.id == "sequence":
            return [self._read(item, f"{path}.{n}" if path else str(n)) for n, item in enumerate(node.value)]
        if node.id == "mapping":
            return dict(self._pairs(node, path))
        return self._scalar(node, path)

    def _pairs(self, node: Node, path: str) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.id != "scalar":
                raise InvalidInput(f"{self.name}:{line}: a key must be a text.")
            name = str(key.value)
            if name in seen:
                raise InvalidInput(f"{self.name}:{line}: {name} is there twice.")
            seen.add(name)
            inner = f"{path}.{name}" if path else name
            self._lines[inner] = line
            yield name, self._read(value, inner)

    def _scalar(self, node: Node, path: str) -> Any:
        plain = node.style is None
        if plain and node.value in NULLS:
            return None
        if not plain or any(pattern.fullmatch(path) for pattern in TEXTS):
            return str(node.value)
        return _value(node)

    def _take_secrets(self) -> None:
        """A list of names takes the values from this shell, so that they stand in no file."""
        jobs = self.document.get("jobs")
        for place, job in enumerate(jobs if isinstance(jobs, list) else ()):
            names = job.get("secret_env") if isinstance(job, dict) else None
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                try:
                    job["secret_env"] = inputs.secrets(names, os.environ)
                except InvalidInput as error:
                    line = self.line_of(f"jobs.{place}.secret_env")
                    said = error.message.replace("--secret-env", "secret_env")
                    raise InvalidInput(f"{self.name}:{line}: {said}") from None


def read(file: str) -> PipelineFile:
    """The file; ``-`` is stdin. Raises InvalidInput with its line for what is no YAML, or no mapping."""
    name = "stdin" if file == "-" else file
    data = inputs.whole(file, name, "--file")
    try:
        return PipelineFile(name, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{name}:{line}: there are bytes that are not UTF-8.") from None


def _compose(name: str, text: str) -> Node | None:
    import yaml

    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise InvalidInput(f"{name}:{line}: there is a character that YAML does not allow.") from None
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise InvalidInput(f"{name}:{_line(error)}: this is not YAML: {_why(error)}.") from None
    except RecursionError:
        raise InvalidInput(f"{name}:{loader.line + 1}: {TOO_DEEP}") from None
    except (ValueError, OverflowError):  # of Python, to which PyYAML gives the numbers in both as they are
        raise InvalidInput(
            f"{name}:{loader.line + 1}: there is an escape or a version that YAML does not have."
        ) from None
    if root is not None:
        _measure(name, root)
    return root


def _measure(name: str, root: Node) -> None:
    """Refuses what is no text, too deep, or too much, as is soon what aliases in each other make, or one in itself."""
    nodes = size_bytes = 0
    waiting: list[tuple[Node, int]] = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        where = f"{name}:{node.start_mark.line + 1}:"
        nodes += 1
        if node.id == "scalar":
            try:
                size_bytes += len(node.value.encode())
            except UnicodeEncodeError:
                raise InvalidInput(f"{where} half of a surrogate pair is no character.") from None
        elif depth > MAX_DEPTH:
            raise InvalidInput(f"{where} {TOO_DEEP}")
        elif node.id == "sequence":
            waiting += ((item, depth + 1) for item in node.value)
        else:
            waiting += ((part, depth + 1) for pair in node.value for part in pair)
        if nodes > MAX_NODES or size_bytes > inputs.MAX_BYTES:
            raise InvalidInput(
                f"{where} there is more in it, its aliases followed, than {MAX_NODES} values or {inputs.MAX_BYTES} bytes."
            )


def _value(node: Node) -> Any:
    """The number or the answer that a plain scalar is; what JSON has no form for, or YAML no value, stays a text."""
    from yaml.constructor import SafeConstructor

    text, kind = str(node.value), node.tag.rpartition(":")[2]
    if kind not in ("bool", "int", "float") or len(text) > MAX_NUMBER_CHARACTERS:
        return text
    try:
        value = getattr(SafeConstructor(), f"construct_yaml_{kind}")(node)
    except (ValueError, LookupError):
        return text
    return value if math.isfinite(value) else text


def _line(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return 1 if mark is None else mark.line + 1


def _why(error: MarkedYAMLError) -> str:
    said = " ".join(part for part in (error.problem, error.context) if part)
    return said or "it cannot be read"


def params(values: list[str]) -> dict[str, str]:
    """``K=V`` as a dictionary; a value may contain ``=``."""
    return inputs.labels(values, "--param")
