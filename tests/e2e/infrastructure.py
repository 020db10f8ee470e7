"""Phase 1: what must be there before anything else, and the servers that keep everything."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping

from e2e import own, records, remains
from e2e.ledger import Ledger, Off
from e2e.system import System

OLDEST_PYTHON = (3, 11)
OLDEST_POSTGRES = 15
NO_DOCKER = "Docker does not answer ({said}). Start it, or let this user use it: docker version must work."


def check_prerequisites(ledger: Ledger, variables: Mapping[str, str], *, own_system: bool) -> None:
    """Before anything is started; each failure is a sentence that says what to do."""
    ledger.demand("Python is new enough", _python)
    ledger.demand("bash is there to type commands into", _bash)
    ledger.demand("Docker answers", _docker)
    if own_system:
        ledger.demand("the ports of a system of its own are free", lambda: own.check_ports(variables))


def check_servers(ledger: Ledger, system: System) -> None:
    """Postgres with the schema, and Redis."""
    ledger.demand("Postgres answers, and is new enough", lambda: _postgres(system))
    ledger.demand("the schema is what this version needs", lambda: _schema(system))
    ledger.prove("public has the nine tables, and nothing besides", lambda: records.check_tables(system))
    ledger.demand("Redis answers", lambda: _redis(system))


def _python() -> str:
    if sys.version_info < OLDEST_PYTHON:
        raise Off(f"This is Python {sys.version.split()[0]}: install Python 3.11 or later.")
    return f"Python {sys.version.split()[0]} at {sys.executable}"


def _bash() -> str:
    found = shutil.which("bash")
    if found is None:
        raise Off("There is no bash here: install it.")
    return found


def _docker() -> str:
    try:
        version = remains.docker("version", "--format", "{{.Server.Version}}", limit_s=20)
    except Off as error:
        raise Off(NO_DOCKER.format(said=str(error).splitlines()[-1])) from None
    where = os.environ.get("DOCKER_HOST") or "/var/run/docker.sock"
    return f"Docker {version} at {where}"


def _postgres(system: System) -> str:
    [(version, number)] = system.sql("SELECT version(), current_setting('server_version_num')::int / 10000")
    if number < OLDEST_POSTGRES:
        raise Off(f"{version}: Postgres {OLDEST_POSTGRES} or later is needed.")
    return str(version).partition(" on ")[0]


def _schema(system: System) -> str:
    done = system.hodei("db", "check")
    if done.returncode:
        raise Off(done.stderr.strip())
    return f"hodei db check: {(done.stdout + done.stderr).strip()}"


def _redis(system: System) -> str:
    with system.client() as client:
        found = client.health().checks.get("redis")
    if found is None or not found.ok:
        raise Off(found.message if found else "the orchestrator's /health says nothing about Redis")
    return found.message
