"""The named queries: each is used, documented by its name, and there once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hodei
from hodei.storage.queries import names, query

SOURCE = Path(hodei.__file__).parent
AGGREGATES = ("job", "worker", "provider", "schedule", "pipeline", "pipeline_run")


def test_every_query_is_used_somewhere() -> None:
    used = "\n".join(file.read_text() for file in SOURCE.rglob("*.py"))
    built = {f"event_record_{aggregate}" for aggregate in AGGREGATES}  # by Transaction.record

    dead = [name for name in names() if f'"{name}"' not in used and name not in built]

    assert dead == []


def test_every_query_that_the_code_names_exists() -> None:
    call = re.compile(r'\btx\.(?:rows|row|scalar|execute|copy)\(\s*"(\w+)"')
    named = {name for file in SOURCE.rglob("*.py") for name in call.findall(file.read_text())}

    assert len(named) > 50
    assert named - set(names()) == set()


def test_an_unknown_query_is_an_error() -> None:
    with pytest.raises(KeyError):
        query("no_such_query")


def test_a_change_of_a_jobs_state_names_the_states_that_it_starts_from() -> None:
    for name in names():
        sql = query(name).text
        for table in ("public.jobs", "public.workers", "hodei.executions"):
            change = re.search(rf"UPDATE {re.escape(table)}\b.*?\bSET\b(.*?)\bWHERE\b(.*)", sql, re.DOTALL)
            if change and re.search(r"(?<!\w)state = ", change[1]) and name != "worker_set_infrastructure":
                assert re.search(r"state (=|IN|<>)", change[2]), name
