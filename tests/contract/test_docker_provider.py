"""What only workers as containers have to get right."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from places import NOBODY, WORKER_IMAGE, DockerPlace, eventually

from hodei.providers.contract import ProviderError, ResourceState
from hodei.providers.docker.container import container_name
from hodei.providers.docker.provider import DockerProvider

pytestmark = pytest.mark.docker


@pytest.fixture
def place(tmp_path: Path) -> Iterator[DockerPlace]:
    made = DockerPlace(tmp_path)
    yield made
    made.clean_up()


@pytest.fixture
def foreign(place: DockerPlace) -> Iterator[str]:
    """Somebody else's container, with a name like ours."""
    name = f"hodei-worker-{uuid4()}"
    docker("create", "--name", name, WORKER_IMAGE)
    yield name
    docker("rm", "--force", name)


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def test_a_container_that_only_has_our_name_is_never_touched(place: DockerPlace, foreign: str) -> None:
    provider = place.open()
    request = place.request()
    worker_id = type(request.worker_id)(foreign.removeprefix("hodei-worker-"))
    theirs = type(request)(worker_id=worker_id, one_time_token="t", deployment=place.deployment)

    provider.stop(worker_id)
    with pytest.raises(ProviderError) as caught:
        provider.start(theirs)

    assert foreign in caught.value.failure.message
    assert provider.inspect(worker_id).state is ResourceState.GONE
    assert provider.list_workers(place.deployment) == []
    assert (
        docker("ps", "--all", "--format", "{{.Status}}", "--filter", f"name={foreign}").strip() == "Created"
    )


def test_a_container_that_the_engine_could_not_start_is_shown_as_over_and_made_anew(
    place: DockerPlace,
) -> None:
    # given what a start leaves that failed, because the engine was killed meanwhile or for any other reason
    provider = place.open()
    request = place.request()
    docker("network", "create", place.deployment)
    place.leave_half_made(request, network=place.deployment)
    docker("network", "rm", place.deployment)
    with pytest.raises(subprocess.CalledProcessError):
        docker("start", container_name(request.worker_id))

    # when it is looked at, a little later
    inspected = provider.inspect(request.worker_id)
    assert eventually(lambda: provider.list_workers(place.deployment) == [inspected])

    # then nobody waits for it
    assert inspected.state is ResourceState.EXITED
    assert inspected.failure is not None and "could not be started" in inspected.failure.message

    # and the next try is another container
    assert provider.start(request) != inspected.resource_id
    assert eventually(lambda: provider.inspect(request.worker_id).state is ResourceState.RUNNING)
    assert len(place.traces(request.worker_id)) == 1


def test_an_image_without_python_fails_within_ten_seconds_with_a_sentence(place: DockerPlace) -> None:
    image = f"hodei-contract-no-python:{place.deployment}"
    docker("build", "--quiet", "--tag", image, str(_no_python(place.folder)))
    try:
        provider = place.open()
        request = place.request(image=image)
        began = time.monotonic()

        with pytest.raises(ProviderError) as caught:
            provider.start(request)

        assert time.monotonic() - began < 10
        assert caught.value.failure.code == "ERR_1010" and "Python 3.8" in caught.value.failure.message
        assert place.traces(request.worker_id) == []
    finally:
        docker("rmi", "--force", image)


def test_more_than_the_host_has_is_said_in_a_sentence(place: DockerPlace) -> None:
    provider = place.open()
    request = place.request(cpu=4096)

    with pytest.raises(ProviderError) as caught:
        provider.start(request)

    assert caught.value.failure.code == "ERR_4005"
    assert place.traces(request.worker_id) == []


def test_the_worker_image_is_never_looked_for_in_a_registry(place: DockerPlace) -> None:
    provider = place.open()

    with pytest.raises(ProviderError) as caught:
        provider.prepare("hodei-jobs-worker:no-such-tag")

    assert "docker build -t hodei-jobs-worker:no-such-tag" in caught.value.failure.message


def test_a_pull_from_a_registry_that_is_away_says_so(place: DockerPlace) -> None:
    with pytest.raises(ProviderError) as caught:
        place.open().prepare(f"{NOBODY}/hodei/nothing:1")

    assert caught.value.failure.code == "ERR_3003" and caught.value.transient


def test_an_engine_that_hangs_is_unhealthy_within_three_seconds(tmp_path: Path) -> None:
    path = tmp_path / "hang.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen(8)
        provider = DockerProvider(
            uuid4(), server_url="http://h", default_image="i", config={"docker_host": f"unix://{path}"}
        )
        began = time.monotonic()

        health = provider.health()

        assert time.monotonic() - began < 3
        assert not health.ok and "did not answer" in health.message


def test_an_engine_that_is_away_is_unhealthy_with_advice(tmp_path: Path) -> None:
    provider = DockerProvider(
        uuid4(),
        server_url="http://h",
        default_image="i",
        config={"docker_host": f"unix://{tmp_path}/no.sock"},
    )

    health = provider.health()

    assert not health.ok and "start Docker" in health.message
    with pytest.raises(ProviderError) as caught:
        provider.inspect(uuid4())
    assert caught.value.failure.code == "ERR_5001" and caught.value.transient


def test_a_container_is_confined(place: DockerPlace) -> None:
    provider = place.open()
    request = place.request(memory_bytes=64 * 1024**2)
    resource_id = provider.start(request)
    assert eventually(lambda: provider.inspect(request.worker_id).state is ResourceState.RUNNING)

    shown = docker("exec", resource_id, "cat", "/proc/1/status")
    lines = dict(line.split(":\t", 1) for line in shown.splitlines() if ":\t" in line)

    assert lines["Uid"].split() == ["10001"] * 4
    assert int(lines["CapEff"], 16) == 0 and lines["NoNewPrivs"] == "1"


def _no_python(folder: Path) -> Path:
    """A build folder for an image that has neither a shell nor Python, and no agent."""
    build = folder / "no-python"
    build.mkdir()
    (build / "Dockerfile").write_text('FROM scratch\nCOPY nothing /nothing\nCMD ["/nothing"]\n')
    (build / "nothing").write_text("nothing")
    return build
