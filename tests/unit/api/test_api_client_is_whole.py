"""The typed client can ask whatever the descriptions say may be asked."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hodei.api.listeners import AGENT_PREFIX
from hodei.client.client import SERVICE_PORTS, HodeiClient
from hodei.client.transport import Transport

GIVEN = "given"
NO_REQUESTS = ("close", "address", "forget_connections")
SERVICES = {"orchestrator": "orchestrator", "scheduler": "scheduler", "worker-manager": "worker_manager"}
Operation = tuple[str, str, str]
"""A service, a method and a path, in which ``{}`` stands for what is given."""
OTHER_NAMES = {
    ("worker_manager", "DELETE", "/api/v1/workers/{}"): ("worker_manager", "POST", "/api/v1/workers/{}/stop")
}
"""The same operation, and how the client asks for it."""


class Asked(Exception):
    """The client has asked; nobody answers."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[Operation]:
    """What the client asks for."""
    found: set[Operation] = set()
    ports = {f":{port}": name for name, port in SERVICE_PORTS.items()} | {":8080": "orchestrator"}

    def send(self: Transport, method: str, path: str, **_: Any) -> Any:
        service = ports[re.search(r":\d+$", self.url)[0]]
        found.add((service, method, path.partition("?")[0].replace(GIVEN, "{}")))
        raise Asked

    def stream(self: Transport, path: str, **named: Any) -> Any:
        return send(self, "GET", path, **named)

    monkeypatch.setattr(Transport, "send", send)
    monkeypatch.setattr(Transport, "stream", stream)
    return found


def ask_everything() -> None:
    """Calls each public method of the client, with something for each argument that it needs."""
    values = {"str": GIVEN, "int": 1}
    for name, method in inspect.getmembers(HodeiClient, inspect.isfunction):
        if name.startswith("_") or name in NO_REQUESTS:
            continue
        parameters = list(inspect.signature(method).parameters.values())[1:]
        needed = {
            each.name: values.get(each.annotation, {})
            for each in parameters
            if each.default is each.empty and each.kind is not each.VAR_KEYWORD
        }
        of_each = (
            [{"service": one} for one in SERVICES.values()]
            if "service" in {p.name for p in parameters}
            else [{}]
        )
        for service in of_each:
            client = HodeiClient("http://127.0.0.1:8080")
            client._addresses = {}
            with client, pytest.raises(Asked):
                answer = method(client, **needed, **service)
                if isinstance(answer, Iterator):
                    next(answer)


def test_the_client_can_ask_whatever_is_described(client, asked: set[Operation]) -> None:
    described = {
        OTHER_NAMES.get(each, each)
        for service in SERVICES
        for path, item in client(service).get("/openapi.json").json["paths"].items()
        if not path.startswith(AGENT_PREFIX)
        for method in item
        for each in [(SERVICES[service], method.upper(), re.sub(r"\{[^}]+\}", "{}", path))]
    }

    ask_everything()

    assert sorted(described - asked) == []
    assert sorted(asked - described) == []
