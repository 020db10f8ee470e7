"""Arrows point one way: what may import what."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import hodei_agent
import pytest

import hodei

ROOT = Path(hodei.__file__).parent
AGENT = Path(hodei_agent.__file__).parent

ONLY_IN = {
    "celery": ("hodei.queue",),
    "kombu": ("hodei.queue",),
    "flask": ("hodei.api",),
    "flask_openapi3": ("hodei.api",),
    "werkzeug": ("hodei.api",),
    "sqlalchemy": ("hodei.storage",),
    "psycopg2": ("hodei.storage", "hodei.embedded"),
    "alembic": ("hodei.storage",),
    "docker": ("hodei.providers.docker",),
    "kubernetes": ("hodei.providers.kubernetes",),
    "typer": ("hodei.cli",),
    "opentelemetry": ("hodei.observability.otel",),
    "prometheus_client": ("hodei.observability",),
}
"""Who may import a part from the shelf. `hodei.embedded` makes the role and database before there is a storage."""

MAY_NOT = {
    "hodei.domain": ("hodei",),
    "hodei.storage": (
        "hodei.services",
        "hodei.sagas",
        "hodei.queue",
        "hodei.api",
        "hodei.cli",
        "hodei.providers",
    ),
    "hodei.services": ("hodei.api", "hodei.cli", "hodei.queue", "hodei.client", "hodei.embedded"),
    "hodei.sagas": ("hodei.api", "hodei.cli", "hodei.queue", "hodei.services", "hodei.embedded"),
    "hodei.logs": ("hodei.providers", "hodei.services", "hodei.queue", "hodei.api", "hodei.cli"),
    "hodei.providers": (
        "hodei.services",
        "hodei.sagas",
        "hodei.storage",
        "hodei.queue",
        "hodei.api",
        "hodei.cli",
    ),
    "hodei.queue": ("hodei.api", "hodei.cli"),
    "hodei.client": ("hodei.services", "hodei.storage", "hodei.queue", "hodei.api", "hodei.sagas"),
    "hodei.api": ("hodei.cli", "hodei.queue"),
}
"""Rooms that a room knows nothing of; its own modules are always allowed."""


def modules() -> Iterator[tuple[str, Path]]:
    for folder in (ROOT, AGENT):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder.parent).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), file


def imports(file: Path) -> set[str]:
    """All that the module imports, also inside functions; not what only a type checker reads."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found.update({f"{node.module}.{alias.name}" for alias in node.names})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text()))
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


IMPORTS = {module: imports(file) for module, file in modules()}


@pytest.mark.parametrize("part", ONLY_IN)
def test_a_part_from_the_shelf_is_imported_only_where_it_belongs(part: str) -> None:
    users = {module for module, found in IMPORTS.items() if any(within(name, part) for name in found)}

    assert {user for user in users if not any(within(user, room) for room in ONLY_IN[part])} == set()


@pytest.mark.parametrize("room", MAY_NOT)
def test_a_room_knows_nothing_of_those_above_it(room: str) -> None:
    members = [module for module in IMPORTS if within(module, room)]
    wrong = {
        f"{module} imports {name}"
        for module in members
        for name in IMPORTS[module]
        for other in MAY_NOT[room]
        if within(name, other) and not within(name, room)
    }

    assert members
    assert wrong == set()


@pytest.mark.parametrize("package", ["hodei.domain", "hodei_agent"])
def test_the_domain_and_the_agent_need_python_alone(package: str) -> None:
    wrong = {
        f"{module} imports {name}"
        for module, found in IMPORTS.items()
        if within(module, package)
        for name in found
        if name.split(".")[0] not in sys.stdlib_module_names and not within(name, package)
    }

    assert wrong == set()


@pytest.mark.parametrize("adapter", ["docker", "kubernetes"])
def test_nothing_outside_its_own_room_imports_a_providers_adapter_when_it_is_imported(adapter: str) -> None:
    """Their libraries are slow: only the registry, and what asks for agents' doors, name an adapter, inside a function."""
    room = f"hodei.providers.{adapter}"
    users = {
        module
        for module, found in IMPORTS.items()
        for name in found
        if within(name, f"{room}.provider") and not within(module, room)
    }

    assert users <= {"hodei.providers.registry", "hodei.doors"}
