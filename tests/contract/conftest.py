from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from places import PLACES, KubernetesPlace, Place


@pytest.fixture(
    params=[
        "process",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("kubernetes", marks=pytest.mark.docker),
        "fake",
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each adapter in turn, in a deployment of its own that is gone afterwards."""
    made: Place
    if request.param == "kubernetes":
        made = KubernetesPlace(tmp_path, request.getfixturevalue("cluster"))
    else:
        made = PLACES[request.param](tmp_path)
    try:
        yield made
    finally:
        made.clean_up()
