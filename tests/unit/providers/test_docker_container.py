"""The body of a container, its view and its failures: pure functions."""

from __future__ import annotations

import io
import tarfile
from typing import Any
from uuid import UUID

import pytest

from hodei.providers.contract import ProviderError, ResourceState, WorkerRequest
from hodei.providers.docker import container, failures, view
from hodei.providers.docker.config import DockerConfig
from hodei.providers.docker.injection import agent_archive
from hodei.providers.docker.pull import watch

WORKER = UUID("00000000-0000-7000-8000-000000000001")
JOB = UUID("00000000-0000-7000-8000-000000000002")


def request(**fields: Any) -> WorkerRequest:
    fields = {"worker_id": WORKER, "job_id": JOB, "one_time_token": "secret", "deployment": "d", **fields}
    return WorkerRequest(**fields)


def body(**fields: Any) -> dict[str, Any]:
    return container.create_body(
        request(**fields), DockerConfig(), image="worker:1", server_url="http://h:8082"
    )


def test_the_container_is_confined_and_named_after_its_worker() -> None:
    assert container.container_name(WORKER) == f"hodei-worker-{WORKER}"
    assert body(cpu=0.5, memory_bytes=1 << 29) == {
        "Image": "worker:1",
        "Env": ["HODEI_SERVER=http://h:8082", "HODEI_TOKEN=secret", f"HODEI_WORKER_ID={WORKER}"],
        "Labels": {
            "hodei.managed": "true",
            "hodei.worker.id": str(WORKER),
            "hodei.job.id": str(JOB),
            "hodei.deployment": "d",
        },
        "User": "10001:10001",
        "StopSignal": "SIGTERM",
        "StopTimeout": 30,
        "HostConfig": {
            "NetworkMode": "bridge",
            "ExtraHosts": ["host.docker.internal:host-gateway"],
            "PidsLimit": 1024,
            "SecurityOpt": ["no-new-privileges:true"],
            "CapDrop": ["ALL"],
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": {"Type": "local", "Config": {"max-size": "16777216", "max-file": "2"}},
            "NanoCpus": 500_000_000,
            "Memory": 1 << 29,
            "MemorySwap": 1 << 29,
        },
    }


def test_without_limits_asked_for_the_defaults_of_the_provider_apply() -> None:
    config = DockerConfig(cpu_default=2, memory_default="512MiB")

    host = container.create_body(request(), config, image="i", server_url="u")["HostConfig"]

    assert (host["NanoCpus"], host["Memory"]) == (2_000_000_000, 512 * 1024**2)
    assert "Memory" not in body()["HostConfig"] and "NanoCpus" not in body()["HostConfig"]


def test_what_the_provider_mounts_is_in_every_container() -> None:
    config = DockerConfig(
        mounts=[
            {"source": "/srv/cache/", "target": "/cache"},
            {"source": "datasets", "target": "/data/", "read_only": True},
        ]
    )

    host = container.create_body(request(), config, image="i", server_url="u")["HostConfig"]

    assert host["Mounts"] == [
        {"Type": "bind", "Source": "/srv/cache/", "Target": "/cache", "ReadOnly": False},
        {"Type": "volume", "Source": "datasets", "Target": "/data", "ReadOnly": True},
    ]
    assert "Mounts" not in body()["HostConfig"] and "Binds" not in host


def test_nobody_can_take_the_platforms_own_labels() -> None:
    labels = body(labels={"hodei.deployment": "another", "team": "a"})["Labels"]

    assert labels["hodei.deployment"] == "d" and labels["team"] == "a"


def test_an_image_without_agent_gets_it_put_in_and_started_with_sh() -> None:
    made = container.create_body(
        request(), DockerConfig(), image="i", server_url="u", inject_agent=True, image_user="app"
    )

    assert made["Entrypoint"] == ["/bin/sh", "/opt/hodei/hodei_agent/launch.sh"]
    assert (made["Cmd"], made["User"], made["WorkingDir"]) == ([], "app", "/")


@pytest.mark.parametrize(
    ("image_user", "user"),
    [
        ("", "10001:10001"),
        ("root", "10001:10001"),
        ("0", "10001:10001"),
        ("0:5", "10001:10001"),
        ("00", "10001:10001"),
        ("root:app", "10001:10001"),
        ("1000:1000", "1000:1000"),
        ("app", "app"),
    ],
)
def test_no_worker_runs_as_root(image_user: str, user: str) -> None:
    assert container.user_for(image_user, DockerConfig()) == user


def test_a_container_is_a_worker_by_its_labels_and_not_by_its_name() -> None:
    ours = body()["Labels"]

    assert container.is_worker(ours, WORKER)
    assert not container.is_worker(ours, JOB)
    assert not container.is_worker({"hodei.worker.id": str(WORKER)}, WORKER)
    assert not container.is_worker(None, WORKER)


@pytest.mark.parametrize(
    ("ranges", "gateway"),
    [
        ([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}], "172.17.0.1"),
        ([{"Subnet": "172.17.0.0/16"}], "172.17.0.1"),
        ([{"Subnet": "fd00::/64", "Gateway": "fd00::1"}, {"Subnet": "10.1.0.0/24"}], "10.1.0.1"),
        ([], None),
        (None, None),
    ],
)
def test_the_hosts_address_on_a_network_is_found(ranges: Any, gateway: str | None) -> None:
    assert container.gateway_of({"IPAM": {"Config": ranges}}) == gateway


@pytest.mark.parametrize(
    ("exit_code", "out_of_memory", "error", "code"),
    [
        (0, False, "", None),
        (0, True, "", None),
        (137, True, "", "ERR_1013"),
        (137, False, "", "ERR_2003"),
        (3, False, "", "ERR_2005"),
        (5, False, "", "ERR_3003"),
        (70, False, "", "ERR_1010"),
        (127, False, "no such file", "ERR_1010"),
    ],
)
def test_an_ended_container_says_why(
    exit_code: int, out_of_memory: bool, error: str, code: str | None
) -> None:
    failure = view.exit_failure(image="i", exit_code=exit_code, out_of_memory=out_of_memory, error=error)

    assert (failure.code if failure else None) == code


def test_a_row_of_the_list_becomes_a_view() -> None:
    row = {"Id": "abc", "Image": "i", "State": "exited", "Status": "Exited (70) 2 seconds ago"}

    seen = view.from_list(row | {"Labels": {"hodei.worker.id": str(WORKER)}})

    assert seen is not None and seen.failure is not None
    assert (seen.state, seen.exit_code, seen.failure.code) == (ResourceState.EXITED, 70, "ERR_1010")
    assert view.from_list(row | {"Labels": {"hodei.worker.id": "nonsense"}}) is None


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("manifest for x:1 not found: manifest unknown", "ERR_3001"),
        (
            "pull access denied for x, repository does not exist or may require 'docker login': denied",
            "ERR_3001",
        ),
        ("unauthorized: authentication required", "ERR_3004"),
        ("Head https://r/v2/: no basic auth credentials", "ERR_3004"),
        ("dial tcp: lookup r on 10.0.0.1:53: no such host", "ERR_3003"),
        ("net/http: TLS handshake timeout", "ERR_3003"),
        ("toomanyrequests: You have reached your pull rate limit", "ERR_5003"),
        ("write /var/lib/docker/x: no space left on device", "ERR_3002"),
    ],
)
def test_a_failed_pull_keeps_the_registrys_own_words(words: str, code: str) -> None:
    failure = failures.pull_failed(words, image="x:1")

    assert failure.code == code
    assert words in failure.message


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        (400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "ERR_4005"),
        (400, "Minimum memory limit allowed is 6MB", "ERR_4005"),
        (404, "network nothing not found", "ERR_5007"),
        (
            400,
            'invalid mount config for type "bind": bind source path does not exist: /nowhere',
            "ERR_5007",
        ),
        (
            400,
            'OCI runtime create failed: exec: "/bin/sh": stat /bin/sh: no such file or directory',
            "ERR_1010",
        ),
        (400, "unable to find user app: no matching entries in passwd file", "ERR_1010"),
        (500, "mkdir /var/lib/docker/overlay2/x: no space left on device", "ERR_3002"),
        (500, "something else", "ERR_5008"),
        (400, "something else", "ERR_5005"),
    ],
)
def test_a_refusal_by_docker_has_a_code(status: int, words: str, code: str) -> None:
    assert failures.refused(status, words, image="x").code == code


def test_the_worker_image_names_the_command_that_builds_it() -> None:
    failure = failures.missing("hodei-jobs-worker:latest")

    assert "docker build -t hodei-jobs-worker:latest -f workers/Dockerfile workers" in failure.message
    assert failures.is_builtin("hodei-jobs-worker")
    assert not failures.is_builtin("registry.example/hodei-jobs-worker:1")


def test_a_pull_that_repeats_itself_without_progress_is_given_up() -> None:
    config = DockerConfig(pull_stall_s=0.02)

    with pytest.raises(ProviderError) as caught:
        watch(_the_same_for_ever(), image="x", config=config)

    assert caught.value.failure.code == "ERR_3003" and "no progress" in caught.value.failure.message


def test_an_error_in_the_progress_ends_a_pull() -> None:
    messages = [{"status": "Pulling"}, {"error": "e", "errorDetail": {"message": "manifest unknown"}}]

    with pytest.raises(ProviderError) as caught:
        watch(messages, image="x", config=DockerConfig())

    assert caught.value.failure.code == "ERR_3001"
    assert not caught.value.transient


def test_the_packed_agent_is_readable_by_everyone_and_always_the_same() -> None:
    packed = agent_archive()

    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        entries = {entry.name: entry for entry in archive}
    assert {"opt/hodei/hodei_agent/__main__.py", "opt/hodei/hodei_agent/launch.sh"} <= set(entries)
    assert all(entry.mode & 0o444 == 0o444 and entry.uid == 0 for entry in entries.values())
    assert len({entry.mtime for entry in entries.values()}) == 1
    assert not any("__pycache__" in name for name in entries)


def _the_same_for_ever() -> Any:
    while True:
        yield {"id": "a", "status": "Downloading", "progressDetail": {"current": 1}}
