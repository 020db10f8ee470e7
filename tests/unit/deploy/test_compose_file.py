"""``deploy/compose.yaml`` as it is written: what it takes from the surroundings, and what it hands to the processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from hodei.settings import unknown_variables

DEPLOY = Path(__file__).parents[3] / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]
WITHOUT_SOCKET = sorted(
    name for name, one in SERVICES.items() if "/var/run/docker.sock" not in yaml.safe_dump(one)
)


def test_what_can_be_set_is_in_the_example_with_its_default() -> None:
    # given
    taken = set(re.findall(r"(?<!\$)\$\{(\w+)(?::?[-?]([^}]*))?\}", TEXT))
    example = dict(re.findall(r"^(?:# )?(\w+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE))

    # then
    assert {name for name, _ in taken} == example.keys() - {"COMPOSE_PROJECT_NAME"}
    assert {name: default for name, default in taken if name != "DOCKER_GID"} == {
        name: example[name] for name, _ in taken if name != "DOCKER_GID"
    }


@pytest.mark.parametrize("service", [name for name, one in SERVICES.items() if "HODEI_BIND" in str(one)])
def test_a_process_gets_settings_that_it_knows(service: str) -> None:
    assert unknown_variables(SERVICES[service]["environment"]) == []


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_published_on_loopback_and_every_service_is_confined(service: str) -> None:
    one = SERVICES[service]

    assert all(port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:") for port in one.get("ports", ()))
    assert one["read_only"] and one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert "healthcheck" in one


def test_who_has_no_socket_judges_no_provider() -> None:
    hodei = [name for name in WITHOUT_SOCKET if "HODEI_BIND" in str(SERVICES[name])]

    assert sorted(hodei) == ["flower", "orchestrator", "scheduler", "worker-manager"]
    assert {SERVICES[name]["environment"]["HODEI_PROVIDER_ACCESS"] for name in hodei} == {"0"}
