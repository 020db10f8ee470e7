"""What a team writes in an afternoon: a Celery task that runs a shell line, in a container or as a process.

No states, no live log, no cancelling, no recovery; it is here to be compared with. ``celery -A tests.bench.handwritten``.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache

import docker
from celery import Celery

from bench.baseline import SHELL_LINE, worker_body

app = Celery(
    "handwritten", broker=os.environ.get("BENCH_REDIS_URL"), backend=os.environ.get("BENCH_REDIS_URL")
)
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1)


@cache
def _engine() -> docker.DockerClient:
    return docker.DockerClient.from_env()


@app.task(name="run_container")
def run_container(image: str) -> str:
    """The shell line in a container with a worker's flags; its output."""
    body = worker_body(image)
    host = body["HostConfig"]
    output: bytes = _engine().containers.run(
        image,
        ["-c", SHELL_LINE],
        entrypoint="/bin/sh",
        remove=True,
        user=body["User"],
        environment=body["Env"],
        network=host["NetworkMode"],
        extra_hosts={"host.docker.internal": "host-gateway"},
        pids_limit=host["PidsLimit"],
        security_opt=host["SecurityOpt"],
        cap_drop=host["CapDrop"],
    )
    return output.decode()


@app.task(name="run_process")
def run_process() -> str:
    """The shell line as a child of the Celery worker; its output."""
    return subprocess.run(["bash", "-c", SHELL_LINE], capture_output=True, text=True, check=True).stdout
