"""Configuration documents, the way to worker-manager, and which adapter a row becomes."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from hodei.errors import ConfigurationError
from hodei.providers.configuration import read_config
from hodei.providers.contract import ProviderError, WorkerRequest
from hodei.providers.docker.config import DockerConfig
from hodei.providers.reach import server_url
from hodei.providers.registry import build_provider
from hodei.settings import Settings


@pytest.mark.parametrize(
    ("server_host", "provider_type", "url"),
    [
        (None, "docker", "http://host.docker.internal:8082"),
        (None, "process", "http://127.0.0.1:8082"),
        (None, "fake", "http://127.0.0.1:8082"),
        ("10.0.0.5", "docker", "http://10.0.0.5:8082"),
        ("hodei.example:9000", "docker", "http://hodei.example:9000"),
        ("http://hodei.example/base/", "docker", "http://hodei.example:8082/base"),
        ("https://hodei.example", "process", "https://hodei.example"),
        ("https://hodei.example:8443", "process", "https://hodei.example:8443"),
        ("fd00::1", "docker", "http://[fd00::1]:8082"),
        ("[fd00::1]:99", "docker", "http://[fd00::1]:99"),
    ],
)
def test_workers_reach_the_platform_at(server_host: str | None, provider_type: str, url: str) -> None:
    assert server_url(server_host, 8082, provider_type) == url


@pytest.mark.parametrize("wrong", ["ftp://x", "http://", "host:port", "http://u:p@h", "http://h?x=1"])
def test_an_address_that_is_none_is_named(wrong: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        server_url(wrong, 8082, "docker")

    assert caught.value.field == "HODEI_SERVER_HOST"


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({"netwrok": "x"}, "network"),
        ({"user": "root"}, "root"),
        ({"user": "0:0"}, "root"),
        ({"network": "none"}, "network"),
        ({"memory_default": "much"}, "memory_default"),
        ({"pids_limit": 1}, "pids_limit"),
        ({"labels": {"hodei.managed": "false"}}, "hodei."),
    ],
)
def test_a_wrong_configuration_says_which_key(document: dict[str, object], word: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read_config(DockerConfig, document)

    assert caught.value.failure.code == "ERR_5007"
    assert word in caught.value.failure.message


def test_there_may_be_several_providers_of_one_type(tmp_path: Path) -> None:
    made = [
        build_provider(
            provider_id=uuid4(),
            provider_type="docker",
            config={"docker_host": f"unix:///nowhere/{number}.sock"},
            settings=Settings(),
            data_dir=tmp_path,
        )
        for number in range(2)
    ]

    assert made[0].provider_id != made[1].provider_id
    assert [provider.health().ok for provider in made] == [False, False]
    assert "/nowhere/1.sock" in made[1].health().message


def test_a_type_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProviderError) as caught:
        build_provider(
            provider_id=uuid4(), provider_type="cloud", config=None, settings=Settings(), data_dir=tmp_path
        )

    assert caught.value.failure.code == "ERR_4002"


def test_an_unavailable_provider_says_why_to_whoever_asks() -> None:
    from hodei.providers.unavailable import UnavailableProvider

    provider = UnavailableProvider(uuid4(), "kubernetes", "It is not installed.")

    assert (provider.health().ok, provider.health().message) == (False, "It is not installed.")
    with pytest.raises(ProviderError) as caught:
        provider.start(WorkerRequest(worker_id=uuid4(), one_time_token="t", deployment="d"))
    assert caught.value.failure.code == "ERR_3006"


@pytest.mark.parametrize(
    ("mount", "key", "words"),
    [
        ({"source": "cache/here", "target": "/c"}, "mounts.0.source", "neither an absolute path"),
        ({"source": "/a/../etc", "target": "/c"}, "mounts.0.source", "neither an absolute path"),
        ({"source": "/a", "target": "c"}, "mounts.0.target", "not an absolute path"),
        ({"source": "/a", "target": "/"}, "mounts.0.target", "not an absolute path"),
        ({"source": "/a", "target": "/c/../proc"}, "mounts.0.target", "not an absolute path"),
        ({"source": "/a", "target": "/opt/hodei/hodei_agent"}, "mounts.0.target", "the agent's"),
        ({"source": "/a", "target": "/opt"}, "mounts.0.target", "the agent's"),
        ({"source": "/a", "target": "/proc"}, "mounts.0.target", "the kernel's"),
        ({"source": "/a", "target": "/c", "readonly": True}, "mounts.0.readonly", "is not known here"),
        ({"target": "/c"}, "mounts.0.source", "required"),
    ],
)
def test_a_mount_that_cannot_be_is_named(mount: dict[str, object], key: str, words: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read_config(DockerConfig, {"mounts": [mount]})

    assert caught.value.failure.code == "ERR_5007"
    assert f"config.{key}" in caught.value.failure.message and words in caught.value.failure.message


def test_two_mounts_in_one_place_are_refused() -> None:
    mounts = [{"source": "/a", "target": "/c"}, {"source": "/b", "target": "/c/"}]

    with pytest.raises(ProviderError) as caught:
        read_config(DockerConfig, {"mounts": mounts})

    assert "/c is the target of more than one mount" in caught.value.failure.message
