"""Small images made from the worker image for tests, without a registry."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator

from support.containers import docker

ONLY_A_SHELL = 'tar --create --dereference --file=- /bin/sh $(ldd /bin/sh | grep --only-matching "/[^ ]*")'
NO_AGENT = "rm -rf /opt/hodei"


@contextlib.contextmanager
def image_without_python(worker_image: str) -> Iterator[str]:
    """An image of a shell and its libraries: 2 MB, no Python, no label; removed afterwards."""
    command = ["docker", "run", "--rm", "--user", "0", "--entrypoint", "sh", worker_image, "-c", ONLY_A_SHELL]
    rootfs = subprocess.run(command, check=True, capture_output=True).stdout
    with _imported("docker", "import", "-", stdin=rootfs) as name:
        yield name


@contextlib.contextmanager
def image_without_agent(worker_image: str) -> Iterator[str]:
    """The worker image with its Python, without the agent and its labels; removed afterwards."""
    container = docker("create", "--user", "0", "--entrypoint", "sh", worker_image, "-c", NO_AGENT)
    try:
        docker("start", "--attach", container)
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            name = f"hodei-test-{secrets.token_hex(4)}:latest"
            subprocess.run(
                ["docker", "import", "-", name], stdin=export.stdout, check=True, capture_output=True
            )
    finally:
        docker("rm", "--force", container)
    try:
        yield name
    finally:
        docker("rmi", "--force", name)


@contextlib.contextmanager
def _imported(*command: str, stdin: bytes) -> Iterator[str]:
    name = f"hodei-test-{secrets.token_hex(4)}:latest"
    subprocess.run([*command, name], input=stdin, check=True, capture_output=True)
    try:
        yield name
    finally:
        docker("rmi", "--force", name)
