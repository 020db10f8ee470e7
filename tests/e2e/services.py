"""Phase 3: the three services, each at its own port, and the processes behind them."""

from __future__ import annotations

import httpx

from e2e.ledger import Ledger, Off, within
from e2e.system import System

SERVICES = ("orchestrator", "scheduler", "worker_manager")
BEHIND = ("controller", "clock", "outbox")
WELL_WITHIN_S = 15.0
"""A process is missed after ten seconds without a word."""


def check(ledger: Ledger, system: System) -> None:
    for service in SERVICES:
        name = service.replace("_", "-")
        ledger.demand(f"{name} is healthy", lambda service=service: _health(system, service))
        ledger.prove(f"{name} describes itself", lambda service=service: _pages(system, service))
    for part in BEHIND:
        ledger.demand(f"the {part} is well", lambda part=part: _behind(system, part))
    ledger.prove("hodei status says that all is well", lambda: _status(system))


def _get(system: System, service: str, path: str) -> httpx.Response:
    with system.client() as client:
        address = client.address(service)
    headers = {"Authorization": f"Bearer {system.token}"} if system.token else {}
    return httpx.get(f"{address}{path}", headers=headers, timeout=10, trust_env=False, follow_redirects=True)


def _health(system: System, service: str) -> str:
    """200 and ok; one that is degraded, as while it starts, may become well meanwhile."""
    bad: list[str] = []

    def well() -> str:
        answer = _get(system, service, "/health")
        said = answer.json()
        if (answer.status_code, said["status"]) == (200, "ok"):
            return f"200 {said['status']} at {answer.url}: {', '.join(said['checks'])}"
        failing = [f"{name}: {check['message']}" for name, check in said["checks"].items() if not check["ok"]]
        bad[:] = [f"GET /health: {answer.status_code} {said['status']}. {'; '.join(failing)}"]
        return ""

    try:
        return within(WELL_WITHIN_S, "its health", well)
    except Off:
        raise Off(*bad) from None


def _pages(system: System, service: str) -> str:
    described, pages, metrics = (
        _get(system, service, path) for path in ("/openapi.json", "/swagger-ui", "/metrics")
    )
    for answer in (described, pages, metrics):
        if answer.status_code != 200:
            raise Off(f"GET {answer.url}: {answer.status_code}")
    document = described.json()
    if not str(document.get("openapi", "")).startswith("3.") or not document.get("paths"):
        raise Off(f"{described.url} is no OpenAPI 3 document with paths")
    families = sum(line.startswith("# TYPE") for line in metrics.text.splitlines())
    return f"OpenAPI {document['openapi']} with {len(document['paths'])} paths, Swagger UI, {families} families of metrics"


def _behind(system: System, part: str) -> str:
    with system.client() as client:

        def well() -> str:
            found = client.health().checks.get(part)
            if found is None:
                raise Off(f"/health says nothing about {part}")
            return found.message if found.ok else ""

        return within(WELL_WITHIN_S, f"a sign of life of {part}", well)


def _status(system: System) -> str:
    done = system.hodei("status")
    if done.returncode:
        raise Off(done.stdout.strip() + done.stderr.strip())
    return done.stdout.strip().splitlines()[-1]
