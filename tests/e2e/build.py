"""Phase 2: the command line and the worker image, which is built when it is absent."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from e2e import remains
from e2e.ledger import Ledger, Off
from e2e.system import CHECKOUT, System

DEFAULT_IMAGE = "hodei-jobs-worker:latest"
BUILD_LIMIT_S = 900.0


def worker_image(variables: Mapping[str, str]) -> str:
    return variables.get("HODEI_WORKER_IMAGE") or DEFAULT_IMAGE


def check(ledger: Ledger, system: System) -> None:
    image = worker_image(system.env)
    ledger.demand("the command line runs", lambda: _command_line(system))
    ledger.demand(f"the worker image {image} is there", lambda: _image(image, system.env))
    ledger.demand("the image holds the agent, and a Python that can run it", lambda: _agent(image))


def _command_line(system: System) -> str:
    done = system.hodei("--version")
    if done.returncode:
        raise Off(done.stderr.strip())
    return done.stdout.strip()


def _image(image: str, variables: Mapping[str, str]) -> str:
    how = "was there"
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
        _build(image, variables)
        how = "was built"
    described = remains.docker("image", "inspect", "--format", "{{.Id}} of {{.Created}}", image)
    return f"{how}: {described}"


def _build(image: str, variables: Mapping[str, str]) -> None:
    """As ``just build-worker`` does it."""
    command = ["build", "--network", variables.get("BUILD_NETWORK") or "default", "-t", image]
    if variables.get("BASE_IMAGE"):
        command += ["--build-arg", f"BASE_IMAGE={variables['BASE_IMAGE']}"]
    try:
        remains.docker(*command, str(CHECKOUT / "workers"), limit_s=BUILD_LIMIT_S)
    except Off as error:
        raise Off(f"It was absent and could not be built: {error}\nBy hand: just build-worker") from None


def _agent(image: str) -> str:
    """Its Python loads all of the agent, without a network and without anything of the platform."""
    loading = "import sys; sys.path.insert(0, '/opt/hodei'); import hodei_agent.everything; print(sys.version.split()[0])"
    version = remains.docker(
        "run", "--rm", "--network", "none", "--entrypoint", "python3", image, "-I", "-S", "-c", loading
    )
    return f"Python {version} loads hodei_agent"
