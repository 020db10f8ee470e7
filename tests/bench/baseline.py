"""The same container by hand: ``docker run --rm`` with exactly what a worker's container is given."""

from __future__ import annotations

import subprocess
import time
from typing import Any
from uuid import uuid4

from hodei.providers.contract import WorkerRequest
from hodei.providers.docker.config import DockerConfig
from hodei.providers.docker.container import create_body

SHELL_LINE = "echo hello"


def worker_body(image: str) -> dict[str, Any]:
    """The body of a worker's container of this image, as the Docker provider makes it."""
    request = WorkerRequest(
        worker_id=uuid4(),
        one_time_token="x" * 43,
        deployment=str(uuid4()),
        job_id=uuid4(),
        image=image,
        cpu=None,
        memory_bytes=None,
    )
    return create_body(request, DockerConfig(), image=image, server_url="http://host.docker.internal:8082")


def run_arguments(image: str) -> list[str]:
    """``docker run`` with the same flags, network and environment, for the same shell line without an agent."""
    body = worker_body(image)
    host = body["HostConfig"]
    flags = ["docker", "run", "--rm", "--network", host["NetworkMode"], "--user", body["User"]]
    flags += ["--pids-limit", str(host["PidsLimit"]), "--restart", host["RestartPolicy"]["Name"]]
    flags += ["--stop-signal", body["StopSignal"], "--stop-timeout", str(body["StopTimeout"])]
    flags += ["--log-driver", host["LogConfig"]["Type"]]
    for name, value in host["LogConfig"]["Config"].items():
        flags += ["--log-opt", f"{name}={value}"]
    for flag, key in (
        ("--add-host", "ExtraHosts"),
        ("--cap-drop", "CapDrop"),
        ("--security-opt", "SecurityOpt"),
    ):
        for value in host[key]:
            flags += [flag, value]
    for variable in body["Env"]:
        flags += ["--env", variable]
    for name, value in body["Labels"].items():
        if name != "hodei.managed":  # nobody shall take it for a worker
            flags += ["--label", f"bench.{name}={value}"]
    return [*flags, "--entrypoint", "/bin/sh", image, "-c", SHELL_LINE]


def docker_run(image: str) -> float:
    """Run it once; the seconds from its start to its end, container removed."""
    command = run_arguments(image)
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took = time.monotonic() - began
    assert done.stdout == "hello\n", done
    return took
