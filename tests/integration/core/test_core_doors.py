"""On which addresses worker-manager listens for workers: where those of a provider that is well come from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
import yaml
from support.core import Core

from hodei.domain.causes import Failure
from hodei.doors import USUAL_BRIDGE, bridge_binds
from hodei.errors import ConfigurationError
from hodei.ports import Platform
from hodei.providers.contract import ProviderError
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


OURS, ELSEWHERE = "127.0.0.7", "10.7.7.1"


@pytest.mark.parametrize(
    ("status", "found", "doors"),
    [
        ("ACTIVE", OURS, [OURS]),
        ("ACTIVE", ELSEWHERE, []),
        ("UNHEALTHY", ELSEWHERE, [ELSEWHERE]),
    ],
    ids=["on this machine", "Docker is elsewhere", "its bridge may come back"],
)
def test_dockers_door_is_where_a_health_check_found_it(
    core: Core, status: str, found: str, doors: list[str]
) -> None:
    core.provider("containers", kind="docker", status=status)
    core.sql(f"UPDATE provider_configs SET capabilities = jsonb_build_object('host_gateway', '{found}')")
    asks_nobody = SimpleNamespace(settings=Settings(), database=core.database)

    assert list(bridge_binds(asks_nobody)) == [(door, 0, False) for door in doors]  # type: ignore[arg-type]


@pytest.mark.parametrize("capabilities", ["{}", '{"host_gateway": null}'], ids=["an older row", "unknown"])
@pytest.mark.parametrize("status", ["ACTIVE", "UNHEALTHY"])
def test_a_docker_that_does_not_say_where_its_bridge_is_has_the_usual_one(
    core: Core, status: str, capabilities: str
) -> None:
    """Its socket may be behind a proxy that refuses the question."""

    def refuses(_: UUID) -> None:
        raise ProviderError(Failure(code="ERR_3006", message="403: forbidden by the proxy"))

    core.provider("containers", kind="docker", status=status)
    core.sql(f"UPDATE provider_configs SET capabilities = CAST('{capabilities}' AS jsonb)")
    found = SimpleNamespace(
        settings=Settings(), database=core.database, providers=SimpleNamespace(get=refuses)
    )

    assert list(bridge_binds(found)) == [(USUAL_BRIDGE, 0, False)]  # type: ignore[arg-type]


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


@pytest.mark.parametrize("agent_bind", ["host:port", "[::1"])
def test_a_door_that_is_no_address_is_refused_with_its_variable(
    core: Core, cluster: Path, agent_bind: str
) -> None:
    found = platform(core, cluster, core.provider("far", kind="kubernetes"), agent_bind=agent_bind)

    with pytest.raises(ConfigurationError, match="HODEI_AGENT_BIND"):
        bridge_binds(found)
