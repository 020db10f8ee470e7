"""A platform's containers, as its operator sees them with ``docker``."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from docker import APIClient

from support.platform import RunningPlatform
from support.waiting import until

NAME_PREFIX = "hodei-worker-"


def docker(*arguments: str, stdin: bytes | None = None) -> str:
    """What a docker command prints. Fails with its stderr."""
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode()}"
    return done.stdout.decode().strip()


def deployment(platform: RunningPlatform) -> str:
    """The label by which this platform's containers are told from those of others on the same engine."""
    return str(platform.sql("SELECT id FROM hodei.deployment")[0][0])


def containers(platform: RunningPlatform, *filters: str) -> list[str]:
    """The names of this platform's workers' containers, running or not."""
    wanted = ["name=hodei-worker", f"label=hodei.deployment={deployment(platform)}", *filters]
    options = [word for one in wanted for word in ("--filter", one)]
    return docker("ps", "--all", "--format", "{{.Names}}", *options).split()


def inspect(container: str) -> dict[str, Any]:
    """Everything that ``docker inspect`` tells anybody who may talk to Docker."""
    return json.loads(docker("inspect", container))[0]


@dataclass
class Followed:
    """One container, followed as ``docker logs --follow`` does from its start to its removal."""

    id: str
    worker_id: str
    job_id: str
    inspected: dict[str, Any]
    stdout: bytes = b""
    stderr: bytes = b""
    over: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        """Without starting a program first: a short job's container may be gone before that one asks."""
        with ThreadPoolExecutor(2) as both:
            out, err = both.submit(self._read, stdout=True), both.submit(self._read, stderr=True)
        self.stdout, self.stderr = out.result(), err.result()
        self.over.set()

    def _read(self, *, stdout: bool = False, stderr: bool = False) -> bytes:
        with closing(APIClient(version="1.41", timeout=120)) as client:
            return b"".join(client.logs(self.id, stdout=stdout, stderr=stderr, stream=True, follow=True))


class Follower:
    """All containers of a platform that were started since, by the job that they were made for."""

    def __init__(self) -> None:
        self.by_job: dict[str, Followed] = {}
        self.threads: list[threading.Thread] = []

    def of(self, job_id: str, *, within_s: float = 10.0) -> Followed:
        """The job's container, once it is gone and all of its output was read."""
        one = until(lambda: self.by_job.get(job_id), within_s=within_s, what="the container's start")
        assert one is not None
        assert one.over.wait(within_s), "the container goes on"
        return one

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            container_id, worker_id, job_id = line.split()
            one = Followed(container_id, worker_id, job_id, {})
            thread = threading.Thread(target=one.follow)
            thread.start()
            self.threads.append(thread)
            with contextlib.suppress(AssertionError):  # gone already: it was a very short job
                one.inspected = inspect(container_id)
            self.by_job[job_id] = one


@contextlib.contextmanager
def followed(platform: RunningPlatform) -> Iterator[Follower]:
    """Follow every container that this platform starts meanwhile, as somebody at a terminal does."""
    label = f"label=hodei.deployment={deployment(platform)}"
    template = (
        '{{.ID}} {{index .Actor.Attributes "hodei.worker.id"}} {{index .Actor.Attributes "hodei.job.id"}}'
    )
    command = ["docker", "events", "--filter", "type=container", "--filter", "event=start"]
    follower = Follower()
    with subprocess.Popen(
        [*command, "--filter", label, "--format", template], stdout=subprocess.PIPE, text=True
    ) as events:
        assert events.stdout
        watcher = threading.Thread(target=follower.read, args=(events.stdout,))
        watcher.start()
        try:
            yield follower
        finally:
            events.terminate()
            watcher.join(10)
            for thread in follower.threads:
                thread.join(10)
