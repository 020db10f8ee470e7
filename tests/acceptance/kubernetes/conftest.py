from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clusters import Cluster
from support.platform import RunningPlatform
from support.pods import nothing_left, of
from support.servers import Servers, fresh_database


def platform_on(cluster: Cluster, folder: Path, database_url: str, redis_url: str) -> RunningPlatform:
    """A platform whose only provider of containers is this cluster, with the rights that are shipped."""
    return RunningPlatform(
        folder,
        database_url,
        redis_url,
        kubernetes_enabled="1",
        k8s_kubeconfig=str(cluster.control_plane),
        process_enabled="0",
    )


@pytest.fixture(scope="session")
def kube(
    servers: Servers, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPlatform]:
    """The whole platform on Kubernetes, shared by all tests that do it no harm."""
    folder = tmp_path_factory.mktemp("kubernetes-platform")
    with fresh_database(servers) as url, platform_on(cluster, folder, url, servers.redis_url) as started:
        yield started
        nothing_left(cluster, started, within_s=60)


@pytest.fixture
def own_kube(servers: Servers, cluster: Cluster, tmp_path: Path) -> Iterator[RunningPlatform]:
    """A platform of the test's own, whose processes it may kill; a real cluster is not left with what it could not remove."""
    with fresh_database(servers) as url:
        started = platform_on(cluster, tmp_path, url, servers.redis_url)
        with started:
            yield started
        for name in {
            one.metadata.name for one in (*cluster.pods(of(started)), *cluster.secrets(of(started)))
        }:
            cluster.remove(name)


@pytest.fixture
def on_own_cluster(servers: Servers, own_cluster: Cluster, tmp_path: Path) -> Iterator[RunningPlatform]:
    """A platform of the test's own on a stand-in of the test's own."""
    with (
        fresh_database(servers) as url,
        platform_on(own_cluster, tmp_path, url, servers.redis_url) as started,
    ):
        yield started
