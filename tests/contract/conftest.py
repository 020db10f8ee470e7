from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from places import PLACES, Place


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker), "fake"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each adapter in turn, in a deployment of its own that is gone afterwards."""
    made = PLACES[request.param](tmp_path)
    try:
        yield made
    finally:
        made.clean_up()
