"""What a log passes through goes away, piece by piece, while jobs write: every line is there once, in order, wherever one looks."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support.chaos_servers import MortalPostgres, MortalRedis, mortal_servers
from support.containers import containers, docker
from support.numbered import LINES_PER_S, Reader, numbered_job, numbered_lines
from support.platform import RunningPlatform
from support.servers import with_driver
from support.severable import Severable
from support.waiting import until

from hodei.embedded.ports import free_port
from hodei.providers.docker.container import gateway_of
from hodei.storage import migrate

pytestmark = pytest.mark.docker

PROCESSES = ("orchestrator", "worker-manager", "controller", "beat")
WITHOUT_POSTGRES_S = 20.0
WITHOUT_NETWORK_S = 60.0
CAUGHT_UP_WITHIN_S = 45.0
IN_FLIGHT_S = 2.0
"""Lines that were written so long after the beginning of a fault at most may have passed before it."""

STOP_IN_CONTAINER = "/tmp/stop"


@pytest.fixture
def mortal(servers_kind: str) -> Iterator[tuple[MortalPostgres, MortalRedis]]:
    with mortal_servers(servers_kind) as both:
        yield both


@pytest.fixture
def stopped(mortal: tuple[MortalPostgres, MortalRedis], docker_image: str, tmp_path: Path) -> RunningPlatform:
    """Each service is a process of its own, on servers of its own; not started yet."""
    postgres, redis = mortal
    url = with_driver(postgres.url)
    migrate.upgrade(url)
    folder = tmp_path / "here"
    folder.mkdir()
    return RunningPlatform(
        folder, url, redis.url, names=PROCESSES, docker_enabled="1", worker_image=docker_image
    )


@pytest.fixture
def way(stopped: RunningPlatform) -> Iterator[Severable]:
    """How workers reach worker-manager: containers and processes by the same address, which is Docker's bridge's."""
    [bridge] = json.loads(docker("network", "inspect", "bridge"))
    gateway, subnet = gateway_of(bridge), bridge["IPAM"]["Config"][0]["Subnet"]
    assert gateway is not None
    target = stopped.ports["WORKER_MANAGER"]
    with Severable(gateway, free_port(), target, spared=subnet) as severable:
        yield severable


@pytest.fixture
def platform(stopped: RunningPlatform, way: Severable) -> Iterator[RunningPlatform]:
    stopped.env["HODEI_SERVER_HOST"] = way.server_host
    with stopped as started:
        yield started
        for left in containers(started):  # of a test that failed
            docker("rm", "--force", left)


def test_no_fault_between_a_job_and_its_reader_costs_or_repeats_a_line(
    platform: RunningPlatform, mortal: tuple[MortalPostgres, MortalRedis], way: Severable, tmp_path: Path
) -> None:
    # given a job on Docker and one as a process, each with somebody who reads along
    postgres, redis = mortal
    stop = tmp_path / "stop"
    jobs = [numbered_job("docker", STOP_IN_CONTAINER), numbered_job("process", str(stop))]
    with platform.client() as client:
        readers = [Reader(platform.client(), job.id) for job in client.create_jobs(jobs)]
    for reader in readers:
        reader.start()
    wait_until_heard(readers, time.time())
    (container,) = containers(platform)

    # when worker-manager is killed
    platform.kill("worker-manager")
    platform.start("worker-manager")
    wait_until_heard(readers, time.time())

    # and Postgres is stopped
    with nothing_is_heard(readers):
        postgres.stop()
        time.sleep(WITHOUT_POSTGRES_S)  # the fault itself
    postgres.start()
    wait_until_heard(readers, time.time())

    # and all that Redis holds is thrown away
    with redis.opened() as connection:
        connection.flushall()
    wait_until_heard(readers, time.time())

    # and there is no network
    with nothing_is_heard(readers):
        way.cut()
        docker("network", "disconnect", "bridge", container)
        time.sleep(WITHOUT_NETWORK_S)  # the fault itself
    docker("network", "connect", "bridge", container)
    way.mend()
    wait_until_heard(readers, time.time())

    # then each has written on in its only attempt, and what was read meanwhile, what is stored, and the file are the same
    docker("exec", container, "touch", STOP_IN_CONTAINER)
    stop.touch()
    for reader in readers:
        check_whole(platform, reader)

    # and so it is for somebody who comes when the workers are gone, to a service that was started later, on an empty disk
    until(lambda: not containers(platform), what="the end of the container")
    left = "SELECT count(*) FROM workers WHERE state <> 'TERMINATED'"
    until(lambda: platform.sql(left)[0][0] == 0, what="the workers' end")
    platform.stop()
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    with RunningPlatform(
        empty, platform.database_url, platform.redis_url, names=["orchestrator"]
    ) as elsewhere:
        for reader in readers:
            with elsewhere.client() as client:
                assert client.log_text(reader.job_id).splitlines() == texts(reader)
                assert [entry.text for entry in client.log(reader.job_id)] == texts(reader)


def texts(reader: Reader) -> list[str]:
    return [entry.text for entry in reader.entries]


def wait_until_heard(readers: list[Reader], since: float) -> None:
    """Until each has received a line that was written after that time."""
    until(
        lambda: all(reader.written_at > since for reader in readers),
        within_s=CAUGHT_UP_WITHIN_S,
        what="new lines at both readers",
    )


@contextlib.contextmanager
def nothing_is_heard(readers: list[Reader]) -> Iterator[None]:
    """A fault: it is one only if no line that was written meanwhile gets through."""
    began = time.time()
    yield
    late = [reader.written_at - began for reader in readers]
    assert max(late) < IN_FLIGHT_S, (
        f"lines written {late} s after the beginning of the fault have come through"
    )


def check_whole(platform: RunningPlatform, reader: Reader) -> None:
    reader.join(CAUGHT_UP_WITHIN_S)
    assert reader.end is not None, f"the stream of {reader.job_id} has no end"
    read = texts(reader)
    assert read == numbered_lines(read[-1])
    assert [entry.seq for entry in reader.entries] == list(range(1, len(read) + 1))
    _, count, seconds = read[-1].split()
    assert int(count) >= 0.99 * LINES_PER_S * int(seconds)

    with platform.client() as client:
        job = client.job(reader.job_id)
        whole = client.log_bytes(reader.job_id)
    assert (job.status, job.attempts, job.log.complete) == ("succeeded", 1, True)
    assert job.log.entries == len(read)
    assert whole == "".join(f"{line}\n" for line in read).encode()
    ((uri, entries, size),) = platform.sql(
        "SELECT storage_uri, entry_count, size_bytes FROM job_log_files WHERE job_id = %s", reader.job_id
    )
    assert Path(unquote(urlsplit(uri).path)).read_bytes() == whole
    assert (entries, size) == (len(read), len(whole))
