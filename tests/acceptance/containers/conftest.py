"""The platform in containers, under pytest-celery: a broker, a controller as the worker under test, and all they need.

Everything is made for one test and removed after it, and bears the label ``hodei.test``. Images are built when they are absent.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from celery import Celery, _state
from pytest_celery import CeleryBrokerCluster, CeleryTestWorker, RedisTestBroker
from pytest_docker_tools import container, fxtr, network, volume
from support import witness_fleet
from support.containered import (
    DATA,
    PLATFORM_IMAGE,
    POSTGRES_IMAGE,
    REDIS_IMAGE,
    TOKEN,
    Broker,
    ContaineredPlatform,
    Controller,
    Member,
)
from support.platform import CHECKOUT

from hodei.embedded.ports import free_port
from hodei.queue.app import make_app

HERE = Path(__file__).parent
LABELS = {"hodei.test": "containers"}
START_S = 60

BUILDS = {
    PLATFORM_IMAGE: ["-f", str(CHECKOUT / "deploy/Dockerfile"), str(CHECKOUT)],
    REDIS_IMAGE: ["--target", "redis", str(HERE)],
    POSTGRES_IMAGE: ["--target", "postgres", str(HERE)],
}


@pytest.fixture(scope="session")
def container_images() -> None:
    """Our images. Skips on a laptop without Docker, fails in CI."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        reason = "no Docker engine is reachable (docker info)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    base = os.environ.get("BASE_IMAGE")
    arguments = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    for image, build in BUILDS.items():
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
            subprocess.run(
                ["docker", "build", "--network", "host", "-t", image, *arguments, *build], check=True
            )


@pytest.fixture(scope="session")
def docker_client(container_images: None) -> Iterator[docker.DockerClient]:
    """What pytest-docker-tools makes everything with."""
    client = docker.from_env(timeout=120)
    yield client
    client.close()


# What stands around the controller


@pytest.fixture
def run_name() -> str:
    """Distinguishes this test's containers by name."""
    return f"hodei-e2e-{secrets.token_hex(4)}"


@pytest.fixture
def broker_port() -> dict[str, tuple[str, int]]:
    """Chosen here, so that it is the same after a restart."""
    return {"6379/tcp": ("127.0.0.1", free_port())}


default_pytest_celery_network = network(name="{run_name}", labels=LABELS)
data_volume = volume(name="{run_name}", labels=LABELS)

default_redis_broker = container(
    image=REDIS_IMAGE,
    name="{run_name}-redis",
    ports=fxtr("broker_port"),
    command=Broker.command(),
    network="{default_pytest_celery_network.name}",
    labels=LABELS,
    wrapper_class=Broker,
    timeout=START_S,
)
postgres = container(
    image=POSTGRES_IMAGE,
    name="{run_name}-postgres",
    ports={"5432/tcp": ("127.0.0.1", None)},
    network="{default_pytest_celery_network.name}",
    labels=LABELS,
    timeout=START_S,
)


@pytest.fixture
def member_env(postgres: Member, celery_worker_cluster_config: dict, run_name: str) -> dict[str, str]:
    """The settings that all of the platform's processes share."""
    shared = {
        "HODEI_DATABASE_URL": f"postgresql://hodei@{postgres.name}:5432/postgres",
        "HODEI_SECRET_KEY": "a key of the tests, long enough",
        "HODEI_DOCKER_ENABLED": "0",
        "HODEI_KUBERNETES_ENABLED": "0",
        "HODEI_BIND": "0.0.0.0",
        "HODEI_API_TOKEN": TOKEN,
        "HODEI_SERVER_HOST": f"{run_name}-serve",
        "HODEI_CONTROLLER_THREADS": "8",
        "HODEI_LOG_DIR": f"{DATA}/logs",
    }
    return Controller.initial_env(celery_worker_cluster_config, shared)


def member(name: str, *command: str, **more: object) -> object:
    """A fixture: one more container of the platform's image, on the same network and data."""
    return container(
        image=PLATFORM_IMAGE,
        name="{run_name}-" + name,
        command=list(command),
        environment=fxtr("member_env"),
        network="{default_pytest_celery_network.name}",
        volumes={"{data_volume.name}": {"bind": DATA, "mode": "rw"}},
        labels=LABELS,
        timeout=START_S,
        **({"wrapper_class": Member} | more),
    )


fleet = member(
    "fleet",
    "-c",
    Path(witness_fleet.__file__).read_text().replace("{", "{{").replace("}", "}}"),
    "--socket",
    f"{DATA}/fleet.sock",
    entrypoint="/opt/hodei/bin/python",
)
serve = member("serve", "serve", "all", ports={"8080/tcp": ("127.0.0.1", None)})
beat = member("beat", "beat")
default_worker_container = member("controller", *Controller.command(), wrapper_class=Controller)
second_worker_container = member("controller-2", *Controller.command(), wrapper_class=Controller)


# What pytest-celery is told about it


@pytest.fixture
def celery_broker(default_redis_broker: Broker) -> RedisTestBroker:
    return RedisTestBroker(default_redis_broker)


@pytest.fixture
def celery_broker_cluster(celery_broker: RedisTestBroker) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(celery_broker)


@pytest.fixture
def celery_backend_cluster() -> None:
    """There is none: results are in Postgres."""


@pytest.fixture
def celery_backend_cluster_config() -> None:
    """There is none."""


@pytest.fixture
def celery_worker(
    fleet: Member, serve: Member, beat: Member, default_worker_container: Controller
) -> CeleryTestWorker:
    """The controller; the others are there before it, so that the fleet is not started in its container."""
    return CeleryTestWorker(default_worker_container, app=None)


@pytest.fixture
def platform_in_containers(
    celery_worker: CeleryTestWorker, postgres: Member, serve: Member, fleet: Member
) -> ContaineredPlatform:
    """The whole of it, once it says that it is well."""
    for one in (postgres, serve):
        one.reload()
    platform = ContaineredPlatform(
        url="http://127.0.0.1:{}".format(serve.ports["8080/tcp"][0]),
        database_url="postgresql://hodei@127.0.0.1:{}/postgres".format(postgres.ports["5432/tcp"][0]),
        fleet=fleet,
    )
    platform.wait_until_well()
    return platform


@pytest.fixture
def celery_setup_app(
    celery_setup_config: dict, platform_in_containers: ContaineredPlatform
) -> Iterator[Celery]:
    """The platform's own app, on the same broker and deployment: messages and control commands reach the controllers."""
    app = make_app(celery_setup_config["broker_url"], platform_in_containers.deployment)
    before = _state._tls.current_app
    yield app
    _state._set_current_app(before)  # pytest-celery makes it the current one with each restart
    app.close()
