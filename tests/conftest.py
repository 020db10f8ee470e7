"""Fixtures for everybody: servers once per run, a database per test made from a template, a platform on them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from support.platform import CHECKOUT, E2E_IMAGE, RunningPlatform
from support.servers import Servers, fresh_database, start_servers

from hodei.bootstrap import open_platform
from hodei.ports import Platform
from hodei.settings import load_settings

if TYPE_CHECKING:
    from support.clusters import Cluster

hypothesis.settings.register_profile("hodei", deadline=None)  # a busy machine is no defect of what is tested
hypothesis.settings.load_profile("hodei")

SERVERS = os.environ.get("HODEI_TEST_SERVERS", "embedded")
IN_CI = os.environ.get("CI") == "true"
REAL_CLUSTER = os.environ.get("HODEI_K8S_TEST") == "1"

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a shell's background; what is started here must hear it
    signal.signal(signal.SIGINT, signal.default_int_handler)

for _name in [name for name in os.environ if name.startswith("HODEI_") or name == "DATABASE_URL"]:
    del os.environ[_name]  # no test depends on what a developer has set


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--seed``: repeat what was random in a run of ``tests/acceptance/chaos`` that printed this seed."""
    parser.addoption("--seed", type=int, default=None, help="of the chaos suite; printed by each run")


@pytest.fixture(scope="session")
def servers_kind() -> str:
    """``embedded`` or ``system``, for tests that start servers of their own."""
    return SERVERS


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Postgres and Redis, for the whole run."""
    with start_servers(SERVERS) as running:
        yield running


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A migrated, empty database of the test's own."""
    with fresh_database(servers) as url:
        yield url


@pytest.fixture
def platform(servers: Servers, database_url: str, tmp_path: Path) -> Iterator[Platform]:
    """The platform in this process, without providers that run anything."""
    settings = load_settings(
        {},
        database_url=database_url,
        redis_url=servers.redis_url,
        data_dir=tmp_path / "data",
        log_dir=tmp_path / "logs",
        secret_key="a key of the tests, long enough",
        docker_enabled="0",
        kubernetes_enabled="0",
        process_enabled=True,
    )
    opened = open_platform(settings, role="test")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def session_database_url(servers: Servers) -> Iterator[str]:
    with fresh_database(servers) as url:
        yield url


@pytest.fixture(scope="session")
def running(
    servers: Servers, session_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPlatform]:
    """The whole platform with the process provider, shared by all tests that do it no harm."""
    folder = tmp_path_factory.mktemp("platform")
    with RunningPlatform(folder, session_database_url, servers.redis_url) as started:
        yield started


@pytest.fixture(scope="session")
def docker_image() -> str:
    """The worker image for tests, built when absent. Skips on a laptop without Docker, fails in CI."""
    installed = shutil.which("docker") is not None
    if not installed or subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        reason = "no Docker engine is reachable (docker version)"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    if subprocess.run(["docker", "image", "inspect", E2E_IMAGE], capture_output=True, check=False).returncode:
        build = ["docker", "build", "--network", "host", "-t", E2E_IMAGE, "-f", "workers/Dockerfile"]
        base = os.environ.get("BASE_IMAGE")
        build += ["--build-arg", f"BASE_IMAGE={base}"] if base else []
        subprocess.run([*build, "workers"], cwd=CHECKOUT, check=True)
    return E2E_IMAGE


@pytest.fixture(scope="session")
def docker_running(
    servers: Servers, docker_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPlatform]:
    """The whole platform with Docker and process, shared by all tests that do it no harm."""
    folder = tmp_path_factory.mktemp("docker-platform")
    with fresh_database(servers) as url:
        with RunningPlatform(
            folder, url, servers.redis_url, docker_enabled="1", worker_image=docker_image
        ) as started:
            yield started


@pytest.fixture(scope="session")
def cluster(docker_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes cluster that has the worker image, shared by all tests that do it no harm: the stand-in, or a real one."""
    from support.clusters import real_cluster, stand_in_cluster  # the client's models take their time

    if REAL_CLUSTER:
        with real_cluster(tmp_path_factory.mktemp("cluster")) as found:
            if "K8S_LOAD_IMAGE" in os.environ:
                found.load(docker_image)
            yield found
    else:
        with stand_in_cluster() as made:
            yield made


@pytest.fixture
def own_cluster(docker_image: str) -> Iterator[Cluster]:
    """A stand-in of the test's own, to be harmed."""
    from support.clusters import stand_in_cluster

    with stand_in_cluster() as made:
        yield made
