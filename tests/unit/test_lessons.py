"""Each lesson has a test that fails when it comes back, or says which capability brings it."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LESSONS = tomllib.loads((CHECKOUT / "tests" / "lessons.toml").read_text())["lesson"]
KEYS = {"line", "tests", "later"}


@cache
def functions_in(path: str) -> frozenset[str]:
    """The names of the test functions in a file; none when there is no such file."""
    file = CHECKOUT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson["line"][:50] for lesson in LESSONS])
def test_a_lesson_is_mapped_to_tests_that_exist_or_to_a_later_capability(lesson: dict[str, object]) -> None:
    tests, later = lesson.get("tests", []), lesson.get("later", "")

    assert lesson.keys() <= KEYS
    assert tests or later, "neither a test nor a reason why there is none yet"
    assert isinstance(tests, list) and isinstance(later, str)
    for test in tests:
        path, _, name = test.partition("::")
        assert name.startswith("test_") and name in functions_in(path), f"{test} does not exist"


def test_no_lesson_is_there_twice_or_missing() -> None:
    lines = [lesson["line"] for lesson in LESSONS]

    assert len(lines) == len(set(lines)) == 41
