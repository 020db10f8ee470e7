"""What the chaos suite stands on: servers, an engine and a platform of its own, which nothing else uses."""

from __future__ import annotations

import os

import pytest
from support import chaos_docker

IN_CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="session")
def chaos_image(docker_image: str) -> str:
    """The worker image, where an engine of the suite's own can run. Skips on a laptop where it cannot, fails in CI."""
    reason = chaos_docker.missing()
    if reason is None:
        return docker_image
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)
