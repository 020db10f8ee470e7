"""Self-hosted workers with the real agent: it survives its own end, its host's, and the platform's; and nothing runs on behind it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.platform import RunningPlatform
from support.servers import Servers, fresh_database
from support.waiting import until

from hodei.client.client import HodeiClient
from hodei.client.registry import RegisteredWorker

AGENT = [sys.executable, "-m", "hodei_agent"]
REFUSED = 3


@pytest.fixture(scope="module")
def platform(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform of this module's own: it is ended and started again."""
    with fresh_database(servers) as url:
        with RunningPlatform(tmp_path_factory.mktemp("self-hosted"), url, servers.redis_url) as started:
            yield started


@pytest.fixture
def client(platform: RunningPlatform) -> Iterator[HodeiClient]:
    with platform.client() as opened:
        yield opened


class Machine:
    """A machine of somebody's own, with the agent's folder."""

    def __init__(self, platform: RunningPlatform, folder: Path, worker: RegisteredWorker) -> None:
        self._platform = platform
        self.folder = folder
        self.worker = worker
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the agent as a service would, without a token: it knows who it is, unless it is told."""
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*AGENT, "--state-dir", str(self.folder), *arguments],
                env={"PATH": os.environ["PATH"]},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self.process

    def start_first(self) -> None:
        server = self._platform.service_url("worker-manager")
        self.start("--server", server, "--token", str(self.worker.token))

    def agent(self) -> psutil.Process:
        """The agent's process, which is the keeper's child."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children()[0]

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                process.kill()
        if self.process is not None:
            self.process.wait()


@pytest.fixture
def machine(platform: RunningPlatform, client: HodeiClient, tmp_path: Path) -> Iterator[Machine]:
    """A machine whose worker's type is its own, connected."""
    made = Machine(platform, tmp_path / "agent", client.register_worker(f"type-{tmp_path.name}"))
    made.start_first()
    until(lambda: client.registered_worker(made.worker.id).state == "READY", what="its connection")
    yield made
    made.end()
    client.stop_worker(made.worker.id)


def submit(client: HodeiClient, machine: Machine, command: str) -> str:
    return client.create_job({"command": command, "required_labels": {"type": machine.worker.type}}).id


def running(client: HodeiClient, job_id: str) -> bool:
    job = client.job(job_id)
    return job.status == "running" and job.log.entries > 0


ONCE = "setsid sleep 4711 & echo attempt $HODEI_ATTEMPT; test $HODEI_ATTEMPT != 1 || sleep 4711"
"""Runs for ever at its first attempt, with a child that has left its session."""


def sleepers(job_id: str) -> list[int]:
    """Living processes of the job, wherever they hide."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HODEI_JOB_ID") == job_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_jobs_run_there_one_after_the_other_and_see_no_session(client: HodeiClient, machine: Machine) -> None:
    kept = machine.folder / "identity" / "worker.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    for word in ("one", "two"):
        job_id = submit(
            client,
            machine,
            f"echo {word}; cat {kept} 2>&1; cat /proc/*/environ | tr '\\0' '\\n' | grep hsw_ || true",
        )
        job = client.wait(job_id)
        assert (job.status, job.worker_id, job.provider_id) == (
            "succeeded",
            machine.worker.id,
            "44444444-4444-4444-4444-444444444444",
        )
        written = client.log_text(job_id)
        assert written.startswith(f"{word}\n")
        assert str(machine.worker.token) not in written and "session_token" not in written

    worker = client.worker(machine.worker.id)
    assert (worker.provider_type, worker.provider_resource_id) == ("self-hosted", os.uname().nodename)


def test_an_agent_that_is_killed_is_started_again_and_its_job_is_tried_again(
    client: HodeiClient, machine: Machine
) -> None:
    job_id = submit(client, machine, ONCE)
    until(lambda: running(client, job_id), what="its beginning")

    machine.agent().kill()

    job = client.wait(job_id)
    assert (job.status, job.attempts) == ("succeeded", 2)
    first = client.executions(job_id)[0]
    assert (first.status, first.error and first.error.code) == ("lost", "ERR_2003")
    until(lambda: not sleepers(job_id), what="the end of all that the first attempt left")


def test_a_machine_that_crashed_comes_back_without_a_token(client: HodeiClient, machine: Machine) -> None:
    job_id = submit(client, machine, ONCE)
    until(lambda: running(client, job_id), what="its beginning")
    machine.agent().suspend()  # so that it says nothing of the keeper's end
    keeper = machine.process
    assert keeper is not None
    agent = machine.agent()
    keeper.kill()
    agent.kill()
    keeper.wait()
    assert sleepers(job_id)  # nobody was left to end them

    machine.start()

    job = client.wait(job_id)
    assert (job.status, job.attempts, job.worker_id) == ("succeeded", 2, machine.worker.id)
    until(lambda: not sleepers(job_id), what="the end of all that the first attempt left")


def test_a_service_that_is_stopped_and_started_is_the_same_worker(
    client: HodeiClient, machine: Machine
) -> None:
    job_id = submit(client, machine, "echo $HODEI_ATTEMPT; test $HODEI_ATTEMPT != 1 || sleep 4711")
    until(lambda: running(client, job_id), what="its beginning")
    process = machine.process
    assert process is not None

    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == 0
    until(lambda: client.worker(machine.worker.id).state == "CONNECTING", what="its absence")
    until(
        lambda: "none of them connected" in client.why(job_id).summary, what="the words for what it waits for"
    )
    machine.start()
    job = client.wait(job_id)
    assert (job.status, job.attempts, job.worker_id) == ("succeeded", 2, machine.worker.id)


def test_a_job_goes_on_while_the_platform_is_started_again(
    platform: RunningPlatform, client: HodeiClient, machine: Machine
) -> None:
    go = machine.folder.parent / "go"
    job_id = submit(client, machine, f"echo begun; until test -e {go}; do sleep 0.1; done; echo done")
    until(lambda: running(client, job_id), what="its beginning")

    for name in ("serve", "controller", "beat"):
        platform.kill(name)
    go.touch()
    for name in ("serve", "controller", "beat"):
        platform.start(name)
    platform.wait_until_ready()

    job = client.wait(job_id)
    assert (job.status, job.attempts, client.log_text(job_id)) == ("succeeded", 1, "begun\ndone\n")


def test_a_drained_worker_does_its_job_and_is_nobody_afterwards(
    client: HodeiClient, machine: Machine
) -> None:
    go = machine.folder.parent / "go"
    job_id = submit(client, machine, f"echo begun; until test -e {go}; do sleep 0.1; done")
    until(lambda: running(client, job_id), what="its beginning")

    client.drain_worker(machine.worker.id)
    go.touch()

    assert client.wait(job_id).status == "succeeded"
    process = machine.process
    assert process is not None and process.wait(20) == 0
    until(lambda: client.worker(machine.worker.id).state == "TERMINATED", what="its end")
    assert machine.start().wait(20) == REFUSED


def test_two_agents_do_not_share_a_folder(machine: Machine) -> None:
    second = subprocess.run(
        [*AGENT, "--state-dir", str(machine.folder)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert second.returncode != 0 and "another agent uses" in second.stderr
