from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clusters import Cluster
from support.recipes import Person


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder where the embedded servers' user can come; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hodei-recipes-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def person(place: Path, cluster: Cluster) -> Iterator[Person]:
    """Somebody whose platform runs in the background, on Docker, in pods and as processes."""
    one = Person(
        place / "person",
        HODEI_DOCKER_ENABLED="1",
        HODEI_KUBERNETES_ENABLED="1",
        HODEI_K8S_KUBECONFIG=str(cluster.control_plane),
    )
    one.folder.mkdir()
    started = one.just("dev-server")
    try:
        assert started.returncode == 0 and f"Ready: {one.url}" in started.stdout, started.stdout
        yield one
    finally:
        one.just("stop-server")


@pytest.fixture
def newcomer(place: Path, tmp_path: Path) -> Person:
    """Somebody whose platform does not run, with ports and folders of their own."""
    folder = place / tmp_path.name
    folder.mkdir()
    return Person(folder)
