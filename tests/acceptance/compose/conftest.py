"""The platform of ``deploy/compose.yaml`` on this machine's Docker, for the tests of this folder; gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from support.composed import DEBIAN_IMAGES, DEPLOY, ComposedPlatform
from support.containers import docker
from support.platform import CHECKOUT
from support.waiting import until

PLATFORM_IMAGE = os.environ.get("PLATFORM_IMAGE", "hodei-jobs:e2e-test")
IN_CI = os.environ.get("CI") == "true"
WELL_WITHIN_S = 240.0


@pytest.fixture(scope="session")
def compose_images(docker_image: str) -> str:
    """All images, built when absent; the control plane's is returned. Skips on a laptop without Compose, fails in CI."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if shutil.which("docker-compose") is None and plugin.returncode != 0:
        reason = "there is neither docker-compose nor docker compose"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    builds = {PLATFORM_IMAGE: ["-f", str(DEPLOY / "Dockerfile"), str(CHECKOUT)]}
    for name, image in DEBIAN_IMAGES.items():
        builds[image] = ["-f", str(DEPLOY / f"debian/{name}.Dockerfile"), str(DEPLOY / "debian")]
    base = os.environ.get("BASE_IMAGE")
    arguments = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    for image, build in builds.items():
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
            docker("build", "--network", "host", "-t", image, *arguments, *build)
    return PLATFORM_IMAGE


@pytest.fixture(scope="session")
def composed(compose_images: str) -> Iterator[ComposedPlatform]:
    """Up and well, and shared: every service says of itself that it is healthy."""
    platform = ComposedPlatform(compose_images)
    try:
        platform.up()
        until(
            lambda: set(platform.health().values()) == {"healthy"},
            within_s=WELL_WITHIN_S,
            what="the health of all services",
        )
        yield platform
    finally:
        platform.down()
        left = platform.left()
    assert left == []
