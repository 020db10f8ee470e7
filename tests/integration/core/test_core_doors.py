"""On which addresses worker-manager listens for workers: where those of a provider that is well come from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
import yaml
from support.core import Core

from hodei.bootstrap import USUAL_BRIDGE, bridge_binds
from hodei.errors import ConfigurationError
from hodei.ports import Platform
from hodei.providers.kubernetes.provider import KubernetesProvider
from hodei.settings import Settings


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A kubeconfig of a cluster on this machine's loopback, where nobody answers."""
    path = tmp_path / "config"
    context = {"name": "c", "context": {"cluster": "c"}}
    server = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    path.write_text(yaml.safe_dump({"current-context": "c", "contexts": [context], "clusters": [server]}))
    return path


def platform(core: Core, cluster: Path, provider_id: UUID, **settings: str) -> Platform:
    opened = KubernetesProvider(provider_id, settings=Settings(k8s_kubeconfig=cluster))
    opened.way_back.address = lambda: "10.1.2.3"  # type: ignore[method-assign]
    providers = SimpleNamespace(get=lambda _: opened, ids=lambda: [provider_id])
    found = SimpleNamespace(settings=Settings(**settings), database=core.database, providers=providers)
    return found  # type: ignore[return-value]


def test_a_cluster_that_is_well_gets_a_door_where_its_nodes_come_from(core: Core, cluster: Path) -> None:
    provider_id = core.provider("far", kind="kubernetes")

    assert list(bridge_binds(platform(core, cluster, provider_id))) == [("10.1.2.3", 0, True)]


@pytest.mark.parametrize("status", ["UNHEALTHY", "DISABLED", "MAINTENANCE"])
def test_a_kubeconfig_that_happens_to_be_there_opens_nothing(core: Core, cluster: Path, status: str) -> None:
    provider_id = core.provider("far", kind="kubernetes", status=status)

    assert list(bridge_binds(platform(core, cluster, provider_id))) == []


def test_an_operator_who_says_where_workers_find_us_is_taken_at_their_word(core: Core, cluster: Path) -> None:
    provider_id = core.provider("far", kind="kubernetes")

    assert list(bridge_binds(platform(core, cluster, provider_id, server_host="10.9.9.9"))) == []


@pytest.mark.parametrize(
    ("status", "capabilities", "doors"),
    [
        ("ACTIVE", {"host_gateway": "10.7.7.1"}, [("10.7.7.1", 0, False)]),
        ("UNHEALTHY", {"host_gateway": "10.7.7.1"}, [("10.7.7.1", 0, False)]),
        ("ACTIVE", {"host_gateway": None}, []),
        ("UNHEALTHY", {"host_gateway": None}, [(USUAL_BRIDGE, 0, False)]),
    ],
)
def test_dockers_door_is_where_its_last_health_check_found_it(
    core: Core, status: str, capabilities: dict[str, str | None], doors: list[tuple[str, int, bool]]
) -> None:
    core.provider("containers", kind="docker", status=status)
    core.sql(f"UPDATE provider_configs SET capabilities = CAST('{json.dumps(capabilities)}' AS jsonb)")
    asked_nobody = SimpleNamespace(settings=Settings(), database=core.database)

    assert list(bridge_binds(asked_nobody)) == doors  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("agent_bind", "door"),
    [
        ("10.9.9.9", ("10.9.9.9", 0, False)),
        ("worker-manager.agents:8092", ("worker-manager.agents", 8092, False)),
        ("[fd00::1]:8092", ("fd00::1", 8092, False)),
    ],
)
def test_a_door_that_an_operator_names_is_the_only_one(
    core: Core, cluster: Path, agent_bind: str, door: tuple[str, int, bool]
) -> None:
    provider_id = core.provider("far", kind="kubernetes")
    settings = {"agent_bind": agent_bind, "server_host": "worker-manager.agents"}

    assert list(bridge_binds(platform(core, cluster, provider_id, **settings))) == [door]


def test_a_door_that_is_no_address_is_refused_with_its_variable(core: Core, cluster: Path) -> None:
    found = platform(core, cluster, core.provider("far", kind="kubernetes"), agent_bind="host:port")

    with pytest.raises(ConfigurationError, match="HODEI_AGENT_BIND"):
        bridge_binds(found)
