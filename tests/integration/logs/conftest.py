from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database
from support.written_logs import LiveCore, WrittenJob


@pytest.fixture(scope="session")
def logs_database_url(servers: Servers) -> Iterator[str]:
    with fresh_database(servers) as url:
        yield url


@pytest.fixture(scope="session")
def serving(
    servers: Servers, logs_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPlatform]:
    """The HTTP services, in a process of their own; jobs are moved and their output is written by the tests."""
    folder = tmp_path_factory.mktemp("serving")
    with RunningPlatform(folder, logs_database_url, servers.redis_url, names=["serve"]) as started:
        yield started


@pytest.fixture(scope="session")
def writer(
    servers: Servers, logs_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveCore]:
    core = LiveCore(logs_database_url, servers.redis_url, tmp_path_factory.mktemp("writer"))
    yield core
    core.close()


@pytest.fixture
def written(writer: LiveCore) -> WrittenJob:
    """A running job whose output the test writes."""
    return writer.write_job()


@pytest.fixture
def http(serving: RunningPlatform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serving.url, timeout=30, trust_env=False) as client:
        yield client
