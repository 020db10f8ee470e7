"""What the platform needs is away, or taken: it says so in a sentence, starts where it can, and goes on when it is back."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database
from support.waiting import until

from hodei.embedded.ports import free_port
from hodei.embedded.wheels import installed

ONE_LINE_WITHIN_S = 30


def start(
    platform: RunningPlatform, *arguments: str, **changes: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a server of this platform that is expected to refuse its start."""
    env = {name: value for name, value in (platform.env | changes).items() if value is not None}
    return subprocess.run(
        [sys.executable, "-m", "hodei.cli.main", *arguments],
        env=env, capture_output=True, text=True, timeout=ONE_LINE_WITHIN_S, cwd="/", check=False,
    )  # fmt: skip


def check_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It ended with this code, and its last words are one sentence with these words in it."""
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, done.stderr
    assert last.startswith("Error: ") and "Traceback" not in done.stderr + done.stdout
    for word in words:
        assert word in last


@pytest.fixture
def stopped(servers: Servers, tmp_path: Path) -> Iterator[RunningPlatform]:
    """The settings of a platform of the test's own, nothing of which runs."""
    with fresh_database(servers) as url:
        yield RunningPlatform(tmp_path, url, servers.redis_url, names=[])


def test_a_taken_port_is_named_with_its_holder_and_the_setting(stopped: RunningPlatform) -> None:
    # given
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])

        # when
        serve = start(stopped, "serve", "all", HODEI_SCHEDULER_PORT=port)
        dev = start(stopped, "dev", HODEI_SCHEDULER_PORT=port)

    # then
    check_refused(serve, 3, port, "is taken by", "HODEI_SCHEDULER_PORT")
    check_refused(dev, 3, port, "is taken by", "HODEI_SCHEDULER_PORT")


def test_an_unknown_setting_stops_a_server_with_a_suggestion_and_only_warns_the_command_line(
    stopped: RunningPlatform, running: RunningPlatform
) -> None:
    # when
    serve = start(stopped, "serve", "all", HODEI_REDIS_ULR="redis://127.0.0.1:1")
    listed = running.hodei("job", "list", env={"HODEI_REDIS_ULR": "redis://127.0.0.1:1"})

    # then
    check_refused(serve, 2, "HODEI_REDIS_ULR", "HODEI_REDIS_URL?")
    assert listed.returncode == 0
    assert "HODEI_REDIS_ULR" in listed.stderr and "HODEI_REDIS_ULR" not in listed.stdout


def test_listening_for_everybody_without_a_token_is_refused(stopped: RunningPlatform) -> None:
    # then
    check_refused(start(stopped, "serve", "all", HODEI_BIND="0.0.0.0"), 2, "HODEI_BIND", "HODEI_API_TOKEN")


def test_without_postgres_a_server_says_so_and_ends(stopped: RunningPlatform) -> None:
    # given
    nowhere = f"postgresql://hodei:secret-word@127.0.0.1:{free_port()}/hodei"

    # when
    done = start(stopped, "serve", "all", HODEI_DATABASE_URL=nowhere)

    # then
    check_refused(done, 4, "HODEI_DATABASE_URL")
    assert "secret-word" not in done.stderr + done.stdout


def test_without_a_server_the_command_line_says_how_to_start_one(stopped: RunningPlatform) -> None:
    # then
    check_refused(stopped.hodei("job", "run", "--command", "true"), 4, stopped.url, "hodei dev")


def test_a_database_of_something_else_is_left_alone(servers: Servers, stopped: RunningPlatform) -> None:
    # given
    with fresh_database(servers) as url:
        other = RunningPlatform(stopped.folder, url, servers.redis_url, names=[])
        other.sql("DROP SCHEMA hodei CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        other.sql("CREATE TABLE public.invoices (id int)")

        # when
        done = start(other, "serve", "all")

        # then
        assert done.returncode == 3, done.stderr
        check_refused(done, 3, "invoices")
        tables = other.sql(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'hodei')"
        )
        assert tables == [("public", "invoices")]


def test_without_docker_everything_else_runs_and_its_jobs_wait_visibly(
    servers: Servers, tmp_path: Path
) -> None:
    # given
    with fresh_database(servers) as url:
        platform = RunningPlatform(tmp_path, url, servers.redis_url, docker_enabled="1")
        platform.env["DOCKER_HOST"] = f"unix://{tmp_path}/nobody.sock"
        began = time.monotonic()
        with platform:
            # then
            assert time.monotonic() - began < 30
            assert platform.sql("SELECT name, status FROM provider_configs ORDER BY name") == [
                ("docker", "UNHEALTHY"),
                ("process", "ACTIVE"),
            ]
            [said] = [line for line in platform.log_file("serve").read_text().splitlines()
                      if "not available" in line and "nobody.sock" in line]  # fmt: skip
            assert "error" in said and "docker" in said

            # when
            job_id = platform.hodei("job", "run", "--provider", "docker", "--command", "true").stdout.strip()
            other = platform.hodei("job", "run", "--provider", "process", "--command", "true", "--wait")

            # then
            assert other.returncode == 0, "the other provider works"
            why = platform.hodei("job", "why", job_id).stdout
            assert "UNHEALTHY" in why and "start Docker" in why
            assert platform.sql("SELECT state, attempts FROM jobs WHERE id::text = %s", job_id) == [
                ("PENDING", 0)
            ]
            assert "start Docker" in platform.hodei("provider", "health", "docker").stdout


@contextlib.contextmanager
def own_redis(port: int, folder: Path) -> Iterator[None]:
    """A Redis of the test's own on this port."""
    program = shutil.which("redis-server") or installed().redis
    arguments = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen([str(program), *arguments], stdout=subprocess.DEVNULL, cwd=folder)
    try:
        until(lambda: _listens(port), what="Redis")
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_without_redis_a_job_is_accepted_at_once_and_runs_when_redis_is_back(
    servers: Servers, tmp_path: Path
) -> None:
    # given
    port = free_port()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fresh_database(servers))
        with own_redis(port, tmp_path):
            platform = stack.enter_context(RunningPlatform(tmp_path, url, f"redis://127.0.0.1:{port}/0"))
            with platform.client() as client:
                client.wait(client.create_job({"command": "true", "provider": "process"}).id)

        # when
        took_s: list[float] = []
        ids: list[str] = []
        with platform.client() as client:
            for number in range(5):
                began = time.monotonic()
                ids.append(client.create_job({"command": f"echo {number}", "provider": "process"}).id)
                took_s.append(time.monotonic() - began)
            health = client.health()

            # then
            assert max(took_s) < 0.5
            assert health.status == "degraded" and not health.checks["redis"].ok

            # when
            with own_redis(port, tmp_path):
                ended = [client.wait(job_id).status for job_id in ids]

                # then
                assert ended == ["succeeded"] * 5
                assert platform.sql("SELECT max(attempts) FROM jobs") == [(1,)]
                until(lambda: client.health().status == "ok", within_s=20, what="health")
