from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import structlog
from flask.testing import FlaskClient

from hodei.api.app import create_app
from hodei.observability.meters import Meters
from hodei.observability.tracing import NoTracing
from hodei.services import (
    agents,
    execute,
    figures,
    health,
    history,
    jobs,
    logs,
    provider_admin,
    providers,
    submit,
    summary,
    why,
    worker_admin,
    workers,
)
from hodei.settings import Settings

MODULES = {
    "agents": agents,
    "execute": execute,
    "figures": figures,
    "health": health,
    "history": history,
    "jobs": jobs,
    "logs": logs,
    "provider_admin": provider_admin,
    "providers": providers,
    "submit": submit,
    "summary": summary,
    "why": why,
    "worker_admin": worker_admin,
    "workers": workers,
}
JOB_ID = UUID("0196a3c4-0000-7000-8000-000000000001")
MOMENT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """What a test configures of the logs does not reach the next one."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Calls:
    """Use cases replaced by answers; what they were called with is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.seen: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def answer(self, name: str, answer: Any) -> None:
        """Let ``module.function`` answer this, or raise it when it is an error."""
        module, function = name.split(".")

        def replaced(_platform: Any, *arguments: Any, **named: Any) -> Any:
            self.seen[function] = (arguments, named)
            if isinstance(answer, Exception):
                raise answer
            return answer(*arguments, **named) if callable(answer) else answer

        self._monkeypatch.setattr(MODULES[module], function, replaced)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


Client = Callable[..., FlaskClient]


@pytest.fixture
def client() -> Client:
    """Makes a client of one service with these settings."""

    def make(service: str = "orchestrator", **settings: Any) -> FlaskClient:
        platform = SimpleNamespace(settings=Settings(**settings), meters=Meters(), tracing=NoTracing())
        app = create_app(platform, service)  # type: ignore[arg-type]
        return app.test_client()

    return make


@pytest.fixture
def job() -> dict[str, Any]:
    """A job as the use cases answer it."""
    base = f"/api/v1/jobs/{JOB_ID}"
    return {
        "id": JOB_ID,
        "name": "hello",
        "command": "echo hello",
        "status": "pending",
        "status_code": 0,
        "created_at": MOMENT,
        "started_at": None,
        "links": {"self": base},
    }
