"""The SQL that reads, locks and changes state: named queries in ``*.sql``, each with a line that says what it is for."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from sqlalchemy import TextClause, text
from sqlalchemy.dialects.postgresql import psycopg2

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def _all() -> dict[str, TextClause]:
    queries: dict[str, TextClause] = {}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda item: item.name):
        if not file.name.endswith(".sql"):
            continue
        pieces = _NAME.split(file.read_text(encoding="utf-8"))[1:]
        for name, body in zip(pieces[::2], pieces[1::2], strict=True):
            if name in queries:
                raise ValueError(f"two queries are called {name}")
            queries[name] = text(body.strip().rstrip(";"))
    return queries


def query(name: str) -> TextClause:
    """The query of that name. Raises KeyError when there is none."""
    return _all()[name]


@cache
def statement(name: str) -> str:
    """The same as psycopg2 takes it: with ``%(parameter)s``. Raises KeyError."""
    return str(query(name).compile(dialect=psycopg2.dialect()))


def names() -> list[str]:
    """All names, for the test that looks at every guarded query."""
    return sorted(_all())
