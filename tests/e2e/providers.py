"""Phase 4: the places where workers are made."""

from __future__ import annotations

from collections.abc import Mapping

from e2e.ledger import Ledger, Off
from e2e.system import System

DOCKER = "11111111-1111-1111-1111-111111111111"
KUBERNETES = "22222222-2222-2222-2222-222222222222"
PROCESS = "33333333-3333-3333-3333-333333333333"


def check(ledger: Ledger, system: System) -> None:
    ledger.demand(
        "provider_configs has Docker under its id, ACTIVE", lambda: _is_active(system, DOCKER, "docker")
    )
    ledger.demand("Docker is well when it is looked at now", lambda: _looked_at(system))
    ledger.prove(
        "provider_configs has Kubernetes under its id: ACTIVE, or UNHEALTHY where there is no cluster",
        lambda: _kubernetes(system),
    )
    ledger.prove("there is no fake provider, and processes have their id", lambda: _others(system))
    ledger.prove("HTTP and SQL say the same of all of them", lambda: _as_over_http(system))


def _row(system: System, provider_id: str) -> tuple[str, str] | None:
    rows = system.sql("SELECT provider_type, status FROM provider_configs WHERE id::text = %s", provider_id)
    return rows[0] if rows else None


def _is_active(system: System, provider_id: str, kind: str) -> str:
    found = _row(system, provider_id)
    if found != (kind, "ACTIVE"):
        raise Off(f"{provider_id} is {found or 'not there'}. What is wrong: hodei provider health {kind}")
    return f"{provider_id} | {kind} | ACTIVE"


def _looked_at(system: System) -> str:
    done = system.hodei("provider", "health", "docker")
    if done.returncode:
        raise Off(done.stdout.strip() + done.stderr.strip())
    return done.stdout.strip()


def wants_kubernetes(variables: Mapping[str, str]) -> bool:
    """Whether somebody said that there must be a cluster."""
    return variables.get("HODEI_KUBERNETES_ENABLED") == "1" or variables.get("HODEI_K8S_TEST") == "1"


def kubernetes_status(system: System) -> str | None:
    """``ACTIVE``, another status, or None where it is switched off."""
    found = _row(system, KUBERNETES)
    return found[1] if found else None


def _kubernetes(system: System) -> str:
    found = _row(system, KUBERNETES)
    if found is None and not wants_kubernetes(system.env):
        return f"{KUBERNETES} is not there: Kubernetes is switched off"
    status = found[1] if found else "not there"
    if status != "ACTIVE" and (status != "UNHEALTHY" or wants_kubernetes(system.env)):
        raise Off(f"it is {status}. What is wrong: hodei provider health kubernetes")
    return f"{KUBERNETES} | kubernetes | {status}"


def _others(system: System) -> str:
    rows = system.sql(
        "SELECT id::text, provider_type, status FROM provider_configs WHERE provider_type IN ('process', 'fake')"
    )
    if any(kind == "fake" for _, kind, _ in rows):
        raise Off("the fake provider is one of this system's: it runs nothing")
    built_in = [row for row in rows if row[0] == PROCESS]
    return " | ".join(built_in[0]) if built_in else "processes are switched off"


def _as_over_http(system: System) -> str:
    with system.client() as client:
        over_http = {one.id: (one.type, one.status.upper()) for one in client.providers()}
    by_sql = {
        row[0]: row[1:] for row in system.sql("SELECT id::text, provider_type, status FROM provider_configs")
    }
    if over_http != by_sql:
        raise Off(f"HTTP: {over_http}\nSQL:  {by_sql}")
    return f"{len(by_sql)} providers"
