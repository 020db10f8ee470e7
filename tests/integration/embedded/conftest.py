"""Folders where the servers' own user can come, which pytest's `tmp_path` is not when root runs the tests."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hodei.embedded.process_identity import started_at


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder like somebody's project, open to pass as those are."""
    folder = Path(tempfile.mkdtemp(prefix="place-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Waits for a fact; fails when it does not come."""

    def wait(fact: Callable[[], bool], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not fact():
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.01)

    return wait


@pytest.fixture
def gone(eventually: Callable[..., None]) -> Callable[..., None]:
    """Waits until none of the processes lives."""

    def wait(*pids: int) -> None:
        eventually(lambda: all(started_at(pid) is None for pid in pids))

    return wait
